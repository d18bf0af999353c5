// The decision explorer: while a slider moves, the page is fetched for where it stands, and what depends on it is swapped.
// The address follows, so that it leads back to what is shown. Without scripts the sliders' buttons do that.
import { swap } from "./live.js";

// Many steps in a row, as of a slider that is dragged, are one.
const PAUSE_MS = 40;

function addressOf(form) {
  return `${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`;
}

export function enableDecision(onChange) {
  let wanted;
  let following = false;

  async function follow() {
    if (following) return;
    following = true;
    while (wanted) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const address = wanted;
      wanted = undefined;
      try {
        const response = await fetch(address, { headers: { accept: "text/html" } });
        if (!response.ok) continue;
        const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
        history.replaceState(history.state, "", address);
        if (swap(fresh)) onChange();
      } catch {
        // The server is away; the next step tries again.
      }
    }
    following = false;
  }

  for (const form of document.querySelectorAll("form[data-slide]")) {
    form.addEventListener("input", (event) => {
      form.querySelector("output").value = event.target.value;
      wanted = addressOf(form);
      follow();
    });
  }
}
