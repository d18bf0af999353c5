// What every page has. Everything works without it but liveness, charts, drag and drop.
import { drawCharts } from "./charts.js";
import { enableDecision } from "./decision.js";
import { enableImages } from "./images.js";
import { goLive } from "./live.js";
import { localTimes } from "./times.js";
import { enableDrop } from "./upload.js";

function isDark() {
  return getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
}

function enableThemeToggle(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Not remembered, then.
    }
    show();
    drawCharts();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    show();
    drawCharts();
  });
  show();
}

// Paper is white, and narrower than most screens: A4 and Letter have room for this many pixels between their margins.
const PAPER_WIDTH = 640;

function enablePrinting() {
  const root = document.documentElement;
  let theme;
  addEventListener("beforeprint", () => {
    theme = root.dataset.theme;
    root.dataset.theme = "light";
    drawCharts(PAPER_WIDTH);
  });
  addEventListener("afterprint", () => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    drawCharts();
  });
}

for (const button of document.querySelectorAll(".theme-toggle")) enableThemeToggle(button);
// A select that stands for a choice of page need not be confirmed; without scripts its button does that.
for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
// What is not filled in need not stand in the address.
for (const form of document.querySelectorAll("form[method=get]")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of [...event.formData]) if (value === "") event.formData.delete(name);
  });
}
localTimes(document);
enableDrop();
enableImages();
enableDecision(drawCharts);
drawCharts();
enablePrinting();
goLive(() => drawCharts());
