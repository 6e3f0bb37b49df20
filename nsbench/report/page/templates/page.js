// The page is complete without scripts. This one: theme switch, source filter, tooltips, arrow keys, copying, saving.
const page = (() => {
  "use strict";
  const root = document.documentElement, all = (query, within = document) => [...within.querySelectorAll(query)];

  // What was chosen stands in the address, so that a link brings it back. What is as at first is not in it.
  const address = new URL(location.href);
  const state = {
    get: key => address.searchParams.get(key),
    set: (key, value, usual = "") => {
      if (value === usual) address.searchParams.delete(key); else address.searchParams.set(key, value);
      address.hash = location.hash;
      try { history.replaceState(null, "", address); } catch { /* an address that may not change */ }
    },
  };

  const theme = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `${theme.textContent}: switch the colours`); };
  const asked = state.get("theme");
  if (asked === "dark" || asked === "light") root.dataset.theme = asked;
  theme.hidden = false;
  theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; state.set("theme", root.dataset.theme); label(); });
  label();

  const sources = document.getElementById("sources");
  if (sources) {
    sources.hidden = false;
    sources.addEventListener("change", ({ target }) => all("[data-source]").forEach(part => {
      if (part.matches("section, nav a")) part.hidden = Boolean(target.value) && part.dataset.source !== target.value;
    }));
  }

  // Tooltips by pointer and keyboard. A title stays in place until its tooltip is shown, so that it is read out.
  const tip = document.getElementById("tip");
  let shown = null;
  const hide = () => {
    if (!shown) return;
    if (shown.text) shown.target.title = shown.text;
    shown.target.removeAttribute("aria-describedby");
    tip.hidden = true;
    shown = null;
  };
  const words = target => target.title || [target.closest("table").tHead.rows[1].cells[target.cellIndex].textContent.split("\u00a0")[0],
    `${fixed(+target.dataset.v, 2)}, 95 % interval`, target.dataset.i.replace(" ", " to ")].join(" ");
  const show = target => {
    if (shown && shown.target === target) return;
    hide();
    tip.textContent = words(target);
    shown = { target, text: target.title };
    target.removeAttribute("title");
    target.setAttribute("aria-describedby", "tip");
    tip.hidden = false;
    place(target);
  };
  const place = target => {
    const box = target.getBoundingClientRect(), mine = tip.getBoundingClientRect();
    const above = box.top > mine.height + 16;
    tip.style.left = `${Math.max(8, Math.min(box.left + box.width / 2 - mine.width / 2, innerWidth - mine.width - 8))}px`;
    tip.style.top = `${above ? box.top - mine.height - 8 : box.bottom + 8}px`;
  };
  const told = event => event.target.closest ? event.target.closest("[title], td[data-i]") : null;
  for (const kind of ["pointerover", "focusin"]) addEventListener(kind, event => {
    const target = told(event);
    if (target) show(target);
    else if (!shown || !shown.target.contains(event.target)) hide();
  });
  addEventListener("focusout", hide);
  addEventListener("keydown", event => { if (event.key === "Escape") hide(); });
  addEventListener("scroll", () => { if (shown && shown.target === document.activeElement) place(shown.target); else hide(); }, true);

  // One tab stop per table; the arrow keys move between its figures.
  all("table.scores").forEach(table => {
    const first = table.querySelector("tbody.own td[data-i]");
    if (first) first.tabIndex = 0;
    table.addEventListener("keydown", event => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const cell = event.target.closest("td");
      if (!step || !cell) return;
      const rows = all("tbody.own tr:not([hidden])", table), row = rows[rows.indexOf(cell.parentNode) + step[0]];
      let at = cell.cellIndex + step[1];
      while (row && row.cells[at] && !row.cells[at].getClientRects().length) at += step[1] || 1;  // columns not shown
      const next = row && row.cells[at];
      if (!next || next.tagName !== "TD") return;
      event.preventDefault();
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  });

  const said = (button, done) => {
    const before = button.textContent;
    button.textContent = done;
    setTimeout(() => { button.textContent = before; }, 1500);
  };
  all("button.copy").forEach(button => {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      const near = button.matches(".all") ? all(".command code", button.closest(".card")) : all("code, pre", button.closest(".command") || button);
      const text = button.matches(".link") ? location.href : near.map(one => one.textContent).join("\n");
      try { await navigator.clipboard.writeText(text); said(button, "Copied"); } catch { said(button, "Not allowed"); }
    });
  });
  // What a spreadsheet would take for a formula begins with an apostrophe; a number is none.
  const quoted = value => isNaN(value) ? `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"` : value;
  const save = (file, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(text instanceof Blob ? text : new Blob([text], { type: "text/plain;charset=utf-8" }));
    link.download = file;
    link.click();
    URL.revokeObjectURL(link.href);
  };
  all("button.save").forEach(button => {
    button.hidden = false;
    button.addEventListener("click", () => save(button.dataset.file, button.closest(".command").querySelector("pre").textContent));
  });

  // A method's card opens where its name is clicked, wherever the link stands.
  const opened = () => {
    const card = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (card && card.matches(".methods .card")) all("details", card).forEach(part => { part.open = true; });
  };
  addEventListener("hashchange", opened);
  opened();
  all("table.scores tbody.own th").forEach(head => head.addEventListener("click", event => {
    const link = head.querySelector(".name a:not(.flag)");
    if (link && !event.target.closest("a")) link.click();
  }));

  // As the page was printed: what lies exactly in the middle goes to the even digit.
  const fixed = (value, digits) => {
    const halves = Math.abs(value) * 2 ** (digits + 1);
    if (halves % 2 !== 1) return value.toFixed(digits);
    const even = 2 * Math.round(halves * 5 ** digits / 4);
    return (Math.sign(value) * even / 10 ** digits).toFixed(digits);
  };
  const figure = value => fixed(value, 1);
  const signed = value => { const text = figure(Math.abs(value)); return +text === 0 ? text : (value > 0 ? "+" : "−") + text; };
  const pvalue = p => p < .001 ? "< 0.001" : p.toFixed(3);
  const whisker = (cell, low, value, high, most) => {  // a difference, zero in the middle
    const x = at => (36 + 33 * at / (most || 1)).toFixed(1);
    for (const [name, at] of [["l", low], ["m", value], ["h", high], ["z", 0]]) cell.style.setProperty(`--${name}`, x(at));
  };

  // Paired differences: every pair once, turned round where it is asked for the other way.
  const pairsOf = holder => {
    if (!holder) return () => null;
    let found = null;
    const read = () => Object.fromEntries(Object.entries(JSON.parse(holder.dataset.pairs)).map(([suite, [rows, ...pairs]]) => {
      const each = rows.flatMap((one, at) => rows.slice(at + 1).map(two => `${one} ${two}`));
      return [suite, new Map(each.map((key, at) => [key, pairs[at]]))];
    }));
    return (suite, one, two) => {
      found ||= read();
      const pair = (found[suite] || new Map()).get(`${Math.min(one, two)} ${Math.max(one, two)}`);
      if (!pair) return null;
      const [value, low, high, p, first, second] = pair;
      const turned = one > two;
      return { value: (turned ? -value : value) / 100, low: (turned ? -high : low) / 100, high: (turned ? -low : high) / 100, p: p / 1e5,
        only: first === undefined ? null : turned ? [second, first] : [first, second] };
    };
  };
  return { FIRST: 2, all, state, save, quoted, fixed, figure, signed, pvalue, whisker, pairsOf };
})();
