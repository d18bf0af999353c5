// Sets the remembered theme before the first paint; loaded in the head for that reason. `?theme=` is for one visit.
(() => {
  const asked = new URLSearchParams(location.search).get("theme");
  let theme = asked;
  try {
    theme ??= localStorage.getItem("theme");
  } catch {
    // Storage may be switched off: then the system's choice holds.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
