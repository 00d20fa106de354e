// Light, dark, or as the system has it; before anything is drawn, so that nothing flashes.
(() => {
  const order = ["auto", "light", "dark"];
  const stored = () => {
    try { return localStorage.getItem("geartrain-theme"); } catch { return null; }
  };
  const wear = (theme) => {
    document.documentElement.dataset.theme = theme;
    // A browser that keeps nothing for this page forgets it at the next visit, no more.
    try { localStorage.setItem("geartrain-theme", theme); } catch { /* as said */ }
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${theme}`;
    document.dispatchEvent(new Event("theme"));
  };
  const now = () => document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = order.includes(stored()) ? stored() : "auto";
  document.addEventListener("DOMContentLoaded", () => {
    wear(now());
    document.getElementById("theme").addEventListener("click", () => wear(order[(order.indexOf(now()) + 1) % 3]));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => wear(now()));
})();
