// Image pages: the arrow keys step through a listing, Escape goes back to it; a listing grows as it is read.

function isTyping(target) {
  return target instanceof Element && target.closest("input, select, textarea, [contenteditable]");
}

function stepByKeys() {
  const goTo = { ArrowLeft: "prev", ArrowRight: "next", Escape: "up" };
  addEventListener("keydown", (event) => {
    const rel = goTo[event.key];
    if (!rel || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || isTyping(event.target)) return;
    const link = document.querySelector(`.steps a[rel="${rel}"]`);
    if (!link) return;
    event.preventDefault();
    // Stepping replaces the page, so that one step back leads to the listing.
    if (rel === "up") location.assign(link.href);
    else location.replace(link.href);
  });
}

// The next page is fetched when its link is near, and its cards are added here. Without scripts the link does it.
function growOnScroll() {
  const cards = document.getElementById("cards");
  const pages = document.getElementById("pages");
  const link = () => pages?.querySelector("a[data-more]");
  if (!cards || !link()) return;
  let fetching = false;
  const observer = new IntersectionObserver(async (entries) => {
    if (fetching || !entries.some((entry) => entry.isIntersecting)) return;
    fetching = true;
    try {
      const response = await fetch(link().href, { headers: { accept: "text/html" } });
      if (!response.ok) throw new Error(response.statusText);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      cards.append(...page.querySelectorAll("#cards > li"));
      const next = page.querySelector("#pages a[data-more]");
      if (next) link().href = next.href;
      else link().remove();
    } catch {
      // The link stays, for whoever wants to try.
      observer.disconnect();
    }
    fetching = false;
    const rest = link();
    if (!rest) return observer.disconnect();
    // Seen anew, in case it is still near.
    observer.unobserve(rest);
    observer.observe(rest);
  }, { rootMargin: "1200px" });
  observer.observe(link());
}

// A cell of a grid by arrow keys: from one card to its neighbour.
function walkCards() {
  const cards = document.getElementById("cards");
  cards?.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const link = event.target.closest?.(".thumb");
    if (!step || !link) return;
    const links = [...cards.querySelectorAll(".thumb")];
    const next = links[links.indexOf(link) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

export function enableImages() {
  stepByKeys();
  growOnScroll();
  walkCards();
}
