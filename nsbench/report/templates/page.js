// Adds to a page that is complete without it: theme switch, sorting, tooltips by pointer and keyboard, copy buttons.
(() => {
  "use strict";
  const root = document.documentElement, all = (query, within = document) => [...within.querySelectorAll(query)];

  const theme = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${theme.textContent.toLowerCase()} colours`); };
  const asked = new URLSearchParams(location.search).get("theme");
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); });
  label();

  const value = (row, at) => row.children[at].dataset.v;
  const compare = (at, sign) => (a, b) => {
    const x = value(a, at), y = value(b, at);
    if (at === 0) return sign * x.localeCompare(y);
    if (x === "" || y === "") return (x === "") - (y === "");  // what is missing comes last either way
    return sign * (x - y);
  };
  all("button[data-sort]").forEach(button => button.addEventListener("click", () => {
    const head = button.closest("th"), table = button.closest("table"), at = head.cellIndex;
    const natural = at === 0 || button.dataset.down === "1" ? "ascending" : "descending";  // the best comes first
    const other = natural === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === natural ? other : natural;
    all("th[aria-sort]", table).forEach(th => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    for (const body of table.tBodies) body.append(...[...body.rows].sort(compare(at, order === "ascending" ? 1 : -1)));
  }));

  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = target => {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const box = target.getBoundingClientRect(), mine = tip.getBoundingClientRect();
    const above = box.top > mine.height + 16;
    tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - mine.width / 2, innerWidth - mine.width - 8))}px`;
    tip.style.top = `${above ? box.top - mine.height - 8 : box.bottom + 8}px`;
  };
  all("[title]").forEach(target => {
    target.dataset.tip = target.title;
    target.removeAttribute("title");
    target.setAttribute("aria-describedby", "tip");
    target.addEventListener("pointerenter", () => show(target));
    target.addEventListener("pointerleave", hide);
    target.addEventListener("focus", () => show(target));
    target.addEventListener("blur", hide);
  });
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", hide, true);

  // One tab stop per table; the arrow keys move between its figures.
  all("table.scores").forEach(table => {
    const cells = () => all("td[data-tip]", table);
    cells().forEach((cell, index) => { cell.tabIndex = index ? -1 : 0; });
    table.addEventListener("keydown", event => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const cell = event.target.closest("td");
      if (!step || !cell) return;
      const rows = all("tbody.own tr", table), row = rows[rows.indexOf(cell.parentNode) + step[0]];
      const next = row && row.cells[cell.cellIndex + step[1]];
      if (!next || next.tagName !== "TD") return;
      event.preventDefault();
      cells().forEach(other => { other.tabIndex = -1; });
      next.tabIndex = 0;
      next.focus();
    });
  });

  all("button.copy").forEach(button => {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });
})();
