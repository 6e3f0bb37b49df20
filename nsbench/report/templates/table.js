// Each table: sorting, filters, columns, intervals, differences to a chosen row, CSV.
page.all("table.scores").forEach(table => {
  "use strict";
  const { all, signed, pvalue } = page;
  const anchor = table.id.replace("-scores", ""), mine = `[data-for="${anchor}"]`;
  const form = document.querySelector(`form${mine}`), legend = document.querySelector(`p.legend${mine}`);
  const suites = table.dataset.suites.split(" "), heads = [...table.tHead.rows[1].cells];
  const rows = [], own = all("tbody.own tr", table), every = all("tbody tr", table);
  own.forEach(row => { rows[row.dataset.r] = row; });
  const pair = page.pairsOf(document.getElementById(`${anchor}-compare`));
  const change = new WeakMap();  // the difference that a figure shows
  const title = at => heads[at].textContent.split("\u00a0")[0];
  const lower = at => heads[at].firstElementChild.dataset.down === "1";

  // --- sorting
  const key = (row, at) => {
    const cell = row.cells[at];
    if (at === 0) return cell.dataset.v.toLowerCase();
    return table.classList.contains("diff") ? change.get(cell) : cell.dataset.v === undefined ? undefined : +cell.dataset.v;
  };
  const sort = (at, sign) => {
    for (const body of table.tBodies) {
      const keyed = [...body.rows].map(row => [key(row, at), row]);
      keyed.sort(([x], [y]) => {
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);  // last either way
        return at === 0 ? sign * x.localeCompare(y) : sign * (x - y);
      });
      body.append(...keyed.map(([, row]) => row));
    }
  };
  all("button[data-sort]", table).forEach(button => button.addEventListener("click", () => {
    const head = button.closest("th"), at = head.cellIndex;
    const natural = at === 0 || lower(at) ? "ascending" : "descending";  // the best comes first
    const other = natural === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === natural ? other : natural;
    all("th[aria-sort]", table).forEach(th => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    sort(at, order === "ascending" ? 1 : -1);
  }));
  if (!form) return;
  form.hidden = false;
  const { text, model, intervals, difference, reference } = form.elements;

  // --- rows and columns
  const filter = () => {
    const wanted = text.value.toLowerCase().split(/\s+/).filter(Boolean), only = model ? model.value : "";
    let count = 0;
    for (const row of every) {
      row.dataset.text ||= `${row.cells[0].textContent} ${row.dataset.model}`.toLowerCase();
      row.hidden = !wanted.every(word => row.dataset.text.includes(word)) || Boolean(only) && row.dataset.model !== only;
      count += !row.hidden;
    }
    form.querySelector("output").textContent = `${count} of ${every.length} rows`;
  };
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  const columns = () => {
    const hidden = [];
    for (const box of all("[name=group]", form)) {
      const [start, span, group] = box.value.split(" ").map(Number), name = box.parentNode.textContent.trim();
      if (!box.checked) {
        hidden.push(`#${table.id} .groups > :nth-child(${group + 1})`);
        for (let at = start; at < start + span; at++) hidden.push(`#${table.id} tr:not(.groups) > :nth-child(${at + 1})`);
      }
      all(`#${anchor} .card[data-group]`).forEach(card => { if (card.dataset.group === name) card.hidden = !box.checked; });
    }
    sheet.replaceSync(hidden.length ? `${hidden.join(",")}{display:none}` : "");
  };

  // --- differences
  const before = new WeakMap();
  const keep = cell => {
    if (!before.has(cell)) before.set(cell, [cell.getAttribute("style"), cell.title, ...[...cell.children].slice(0, 2).map(part => part.textContent)]);
    return before.get(cell);
  };
  const put = (cell, style, words, value, margin) => {
    cell.setAttribute("style", style || "");
    if (words) cell.title = words; else cell.removeAttribute("title");
    cell.children[0].textContent = value;
    cell.children[1].textContent = margin;
    cell.classList.remove("up", "down", "even", "apart-now");
  };
  const fair = cell => cell && cell.dataset.v !== undefined && cell.matches(".w");
  const restore = () => all("tbody.own td[data-v]", table).forEach(cell => { if (before.has(cell)) put(cell, ...keep(cell)); });
  const found = (at, of) => rows.map((row, one) => {
    const two = of(row), cell = row.cells[at], other = two === undefined || two === one ? null : rows[two].cells[at];
    if (!fair(cell) || !fair(other)) return null;
    const value = cell.dataset.v - other.dataset.v;
    return { value, ...(pair(suites[at - 1], one, two) || { low: value, high: value }) };
  });
  const differences = () => {
    const of = row => reference.value === "" ? (row.dataset.ref === undefined ? undefined : +row.dataset.ref) : +reference.value;
    const used = new Set(rows.map(of));
    for (let at = 1; at <= suites.length; at++) {
      const deltas = found(at, of), most = Math.max(...deltas.map(one => one ? Math.max(Math.abs(one.low), Math.abs(one.high)) : 0));
      deltas.forEach((one, index) => {
        const cell = rows[index].cells[at];
        if (cell.dataset.v === undefined) return;
        keep(cell);
        change.set(cell, one ? one.value : used.has(index) ? 0 : undefined);
        if (!one) { put(cell, "", "", used.has(index) ? "ref." : "–", ""); cell.classList.add("apart-now"); return; }
        const tested = one.p !== undefined, better = lower(at) ? one.value < 0 : one.value > 0, even = !tested || one.p > .05;
        const verdict = !tested ? "not tested" : even ? "not separable" : better ? "better" : "worse";
        const range = tested ? ` (${signed(one.low)} to ${signed(one.high)})` : "", p = tested ? `, p ${one.p < .001 ? "" : "= "}${pvalue(one.p)} after Holm` : "";
        put(cell, `--t:${(Math.abs(one.value) / (most || 1)).toFixed(2)}`,
          `${title(at)}: ${signed(one.value)}${range} against ${rows[of(rows[index])].cells[0].dataset.v}: ${verdict}${p}`,
          signed(one.value), tested ? `±${((one.high - one.low) / 2).toFixed(1)}` : "");
        if (+Math.abs(one.value).toFixed(1)) cell.classList.add(better ? "up" : "down");
        if (tested && even) cell.classList.add("even");
        page.whisker(cell, one.low, one.value, one.high, most);
      });
    }
  };
  const choose = () => {
    const on = Boolean(difference && difference.checked);
    table.classList.toggle("diff", on);
    table.classList.toggle("plain", !intervals.checked);
    legend.hidden = !on;
    if (!on) { restore(); return; }
    differences();
    const tested = document.getElementById(`${anchor}-compare`);
    legend.textContent = `Each figure minus that of ${reference.value === "" ? "its matched control" : rows[reference.value].cells[0].dataset.v}: blue is better, orange is worse. ` +
      (tested ? "Bold is separable after Holm's correction over the table, dotted is not." : "With so many rows these are not tested here; nsbench report --reference NAME tests them.");
  };
  form.addEventListener("submit", event => event.preventDefault());
  text.addEventListener("input", filter);
  form.addEventListener("change", event => {
    if (event.target === reference && difference) difference.checked = true;
    if (event.target.name === "group") columns(); else if (event.target === model) filter(); else choose();
  });
  filter();

  // --- CSV: what a spreadsheet would take for a formula begins with an apostrophe
  const quoted = value => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const csv = document.querySelector(`button.csv${mine}`);
  csv.hidden = false;
  csv.addEventListener("click", () => {
    const lines = ["source,model,label,suite,value,low,high"];
    for (const row of own) for (const cell of row.querySelectorAll("td[data-i]")) {
      lines.push([quoted(table.dataset.source), quoted(row.dataset.model), quoted(row.cells[0].dataset.v),
        suites[cell.cellIndex - 1], cell.dataset.v, ...cell.dataset.i.split(" ")].join(","));
    }
    page.save("leaderboard.csv", `${lines.join("\n")}\n`);
  });
});
