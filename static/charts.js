// Draws the charts whose data stand in the page. plotly.js is loaded when the first one has something to show.

let loading;

function plotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.documentElement.dataset.plotly;
    script.onload = () => resolve(globalThis.Plotly);
    script.onerror = () => reject(new Error("plotly.js could not be loaded"));
    document.head.append(script);
  });
  return loading;
}

// A colour stands in the data as the name of a custom property: the browser computes it for the theme in force.
function withColours(value, probe) {
  if (Array.isArray(value)) return value.map((item) => withColours(item, probe));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withColours(item, probe)]));
  }
  if (typeof value === "string" && value.startsWith("var(--")) {
    probe.style.color = value;
    return getComputedStyle(probe).color;
  }
  return value;
}

async function draw(figure, width) {
  const source = document.getElementById(figure.dataset.chart);
  const plot = figure.querySelector(".plot");
  const chart = source && JSON.parse(source.textContent);
  figure.hidden = !chart;
  if (!chart) return;
  try {
    const Plotly = await plotly();
    const probe = document.createElement("span");
    probe.hidden = true;
    document.body.append(probe);
    const { data, layout, config } = withColours(chart, probe);
    probe.remove();
    await Plotly.react(plot, data, width ? { ...layout, width } : layout, config);
  } catch (error) {
    plot.textContent = "The chart could not be drawn; the table holds the same figures.";
    console.error(error);
  }
}

// `width`: in pixels; without it, as wide as there is room.
export async function drawCharts(width) {
  await Promise.all([...document.querySelectorAll("[data-chart]")].map((figure) => draw(figure, width)));
}
