// Keeps a page current: on an event it fetches its own address again and swaps the elements marked `data-live`.
import { localTimes } from "./times.js";

const PAUSE_MS = 700;

// Swaps the elements marked `data-live` for those of a freshly fetched page; says whether any is another one now.
export function swap(fresh) {
  localTimes(fresh);
  let changed = false;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next) continue;
    for (const details of old.querySelectorAll("details[id][open]")) {
      next.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
    }
    if (old.isEqualNode(next)) continue;
    for (const box of old.querySelectorAll("input[type=checkbox][id]:checked")) {
      const same = next.querySelector(`#${CSS.escape(box.id)}`);
      if (same) same.checked = true;
    }
    const opened = old.querySelector(":popover-open")?.id;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...old.querySelectorAll("[data-keep-scroll]")].map((item) => [item.id, item.scrollTop]);
    old.replaceWith(document.adoptNode(next));
    for (const [id, top] of scrolled) document.getElementById(id)?.scrollTo({ top });
    // Opened by its number again, which it stands beside.
    if (opened) document.getElementById(opened)?.showPopover({ source: document.querySelector(`[popovertarget="${opened}"]`) });
    if (focused) document.getElementById(focused)?.focus();
    changed = true;
  }
  return changed;
}

export function goLive(onChange) {
  const address = document.body.dataset.events;
  if (!address) return;
  let waiting = false;
  let again = false;

  async function refresh() {
    if (waiting) {
      again = true;
      return;
    }
    waiting = true;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (response.ok) {
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        // A page that became another one, such as the first comparison, is loaded whole.
        if (fresh.body.dataset.page !== document.body.dataset.page) return location.reload();
        if (swap(fresh)) onChange();
      }
    } catch {
      // The server is away; the event source connects again by itself, and that refreshes.
    }
    setTimeout(() => {
      waiting = false;
      if (again) {
        again = false;
        refresh();
      }
    }, PAUSE_MS);
  }

  const source = new EventSource(address);
  // What happened before the connection stood, or while it was away, is not sent again.
  source.addEventListener("open", refresh);
  for (const kind of ["run", "deleted", "activity", "missed"]) source.addEventListener(kind, refresh);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}
