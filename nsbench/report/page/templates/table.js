// Each table: sorting, filters, columns, intervals, differences to a chosen row, CSV.
page.all("table.scores").forEach(table => {
  "use strict";
  const { all, signed, pvalue } = page;
  const anchor = table.id.replace("-scores", ""), mine = `[data-for="${anchor}"]`;
  const form = document.querySelector(`form${mine}`), legend = document.querySelector(`p.legend${mine}`);
  const suites = table.dataset.suites.split(" "), FIRST = page.FIRST, heads = [...table.tHead.rows[1].cells];
  const rows = [], own = all("tbody.own tr", table), every = all("tbody tr", table);
  own.forEach(row => { rows[row.dataset.r] = row; });
  const pair = page.pairsOf(document.getElementById(`${anchor}-compare`));
  const change = new WeakMap();  // the difference that a figure shows
  const title = at => heads[at].textContent.split("\u00a0")[0];
  const lower = at => heads[at].firstElementChild.dataset.down === "1";

  const ask = name => page.state.get(`${anchor}.${name}`);
  const tell = (name, value, usual) => page.state.set(`${anchor}.${name}`, value, usual);

  // --- sorting
  const key = (row, at) => {
    const cell = row.cells[at];
    if (at === 0) return cell.dataset.v.toLowerCase();
    if (table.classList.contains("diff") && at >= FIRST && at < FIRST + suites.length) return change.get(cell);
    return cell.dataset.v === undefined || isNaN(cell.dataset.v) ? cell.dataset.v : +cell.dataset.v;
  };
  const sort = (at, sign) => {
    for (const body of table.tBodies) {
      const keyed = [...body.rows].map(row => [key(row, at), row]);
      keyed.sort(([x], [y]) => {
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);  // last either way
        return sign * (typeof x === "string" ? x.localeCompare(y) : x - y);
      });
      body.append(...keyed.map(([, row]) => row));
    }
  };
  const nameOf = at => at < FIRST ? ["name", "rank"][at] : suites[at - FIRST] || title(at);
  const by = (head, order) => {
    all("th[aria-sort]", table).forEach(th => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    sort(head.cellIndex, order === "ascending" ? 1 : -1);
    table.dispatchEvent(new Event("sorted"));
  };
  all("button[data-sort]", table).forEach(button => button.addEventListener("click", () => {
    const head = button.closest("th"), at = head.cellIndex;
    const natural = at === 0 || lower(at) ? "ascending" : "descending";  // the best comes first
    const other = natural === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === natural ? other : natural;
    by(head, order);
    tell("sort", `${order === "ascending" ? "" : "-"}${nameOf(at)}`);
  }));
  if (!form) return;
  form.hidden = false;
  const { text, model, intervals, difference, reference, everything } = form.elements;

  // --- rows and columns
  let wanted = page.filterOf("", table);
  const number = many => many.toLocaleString("en");
  const count = () => {  // of what is on the screen
    const shown = own.filter(row => !row.hidden).length, reported = every.filter(row => !row.hidden).length - shown;
    const drawn = table.classList.contains("capped") ? Math.min(shown, 200) : shown;
    form.querySelector("output").textContent = `${number(drawn)} of ${number(own.length)} rows${shown || reported ? "" : ": the filter fits none"}${reported ? ` and ${reported} reported` : ""}`;
  };
  const filter = () => {
    wanted = page.filterOf(text.value, table);
    const only = model ? model.value : "";
    for (const row of every) row.hidden = !wanted.row(row) || !only.startsWith(only && row.dataset.model);  // a reported row names its model in short
    tell("filter", text.value.trim());
    if (model) tell("model", only);
    count();
    paint();
  };
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  const boxes = all("[name=group]", form), nameOfGroup = box => box.parentNode.textContent.trim();
  const chosen = () => boxes.filter(box => box.checked).map(nameOfGroup).join(","), usual = chosen();
  const columns = () => {
    const hidden = [];
    for (const box of boxes) {
      box.disabled = Boolean(wanted.group);
      const [start, span, group] = box.value.split(" ").map(Number), name = nameOfGroup(box);
      const shown = wanted.group ? group === 1 || wanted.group(name) : box.checked;
      if (!shown) {
        hidden.push(`#${table.id} .groups > :nth-child(${group + 1})`);
        for (let at = start; at < start + span; at++) hidden.push(`#${table.id} tr:not(.groups) > :nth-child(${at + 1})`);
      }
      all(`#${anchor} .card[data-group]`).forEach(card => { if (card.dataset.group === name) card.hidden = !shown; });
    }
    tell("columns", chosen(), usual);
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
  const against = row => reference.value !== "" ? +reference.value : row.dataset.ref === undefined ? undefined : +row.dataset.ref;
  const delta = (row, one, at) => {
    const two = against(row), cell = row.cells[at], other = two === undefined || two === one ? null : rows[two].cells[at];
    if (!fair(cell) || !fair(other)) return null;
    const value = cell.dataset.v - other.dataset.v;
    return pair(suites[at - FIRST], one, two) || { value, low: value, high: value };
  };
  let columnsOf = [], used = new Set(), painted = new Set();
  const measure = () => {
    used = new Set(rows.map(against));
    columnsOf = suites.map((suite, index) => {
      const deltas = rows.map((row, one) => delta(row, one, index + FIRST));
      deltas.forEach((one, place) => change.set(rows[place].cells[index + FIRST], one ? one.value : used.has(place) ? 0 : undefined));
      return { deltas, most: Math.max(...deltas.map(one => one ? Math.max(Math.abs(one.low), Math.abs(one.high)) : 0)) };
    });
  };
  const show = (cell, at, row, one, most) => {
    const own = used.has(+row.dataset.r);
    keep(cell);
    if (!one) { put(cell, "", "", own ? "ref." : "–", ""); cell.classList.add("apart-now"); return; }
    const tested = one.p !== undefined, better = lower(at) ? one.value < 0 : one.value > 0, even = !tested || one.p > .05;
    const verdict = !tested ? "not tested" : even ? "not separable" : better ? "better" : "worse";
    const once = tested && [row, rows[against(row)]].some(each => "once" in each.dataset) ? " (these weights)" : "";
    const range = tested ? ` (${signed(one.low)} to ${signed(one.high)})` : "", p = tested ? `, p ${one.p < .001 ? "" : "= "}${pvalue(one.p)} after Holm` : "";
    put(cell, `--t:${(Math.abs(one.value) / (most || 1)).toFixed(2)}`,
      `${title(at)}: ${signed(one.value)}${range} against ${rows[against(row)].cells[0].dataset.v}: ${verdict}${once}${p}`,
      signed(one.value), tested ? `±${page.figure((one.high - one.low) / 2)}` : "");
    if (+page.figure(one.value)) cell.classList.add(better ? "up" : "down");
    if (even) cell.classList.add("even");
    page.whisker(cell, one.low, one.value, one.high, most);
  };
  const paint = () => {  // only rows on the screen: a long table has too many figures to change at once
    if (!table.classList.contains("diff")) return;
    const visible = [...table.tBodies[0].rows].filter(row => !row.hidden);
    for (const row of table.classList.contains("capped") ? visible.slice(0, 200) : visible) {
      if (painted.has(row)) continue;
      painted.add(row);
      columnsOf.forEach(({ deltas, most }, index) => {
        const cell = row.cells[index + FIRST];
        if (cell.dataset.v !== undefined) show(cell, index + FIRST, row, deltas[row.dataset.r], most);
      });
    }
  };
  const restore = () => {
    for (const row of painted) for (const cell of row.cells) if (before.has(cell)) put(cell, ...keep(cell));
    painted = new Set();
  };
  const choose = () => {
    const on = Boolean(difference && difference.checked);
    table.classList.toggle("diff", on);
    table.classList.toggle("plain", !intervals.checked);
    legend.hidden = !on;
    tell("show", [intervals.checked ? "" : "figures", on ? "differences" : ""].filter(Boolean).join(","));
    if (reference) tell("against", reference.value === "" ? "" : reference.selectedOptions[0].text);
    restore();
    if (!on) return;
    measure();
    paint();
    const tested = document.getElementById(`${anchor}-compare`);
    legend.textContent = `Each figure minus that of ${reference.selectedOptions[0].text}: blue is better, orange is worse. ` +
      (tested ? "Bold is separable after Holm's correction over the table, dotted is not; a row of one training speaks of these weights." : "With so many rows these are not tested here; nsbench report --reference NAME tests them.");
  };
  form.addEventListener("submit", event => event.preventDefault());
  table.addEventListener("sorted", paint);
  text.addEventListener("input", () => { filter(); columns(); });
  if (everything) everything.addEventListener("click", () => { table.classList.remove("capped"); everything.remove(); count(); paint(); });
  form.addEventListener("change", event => {
    if (event.target === reference && difference) difference.checked = true;
    if (event.target.name === "group") columns(); else if (event.target === model) filter(); else choose();
  });

  // --- as the address asks
  text.value = ask("filter") || "";
  for (const [select, name] of [[model, "model"], [reference, "against"]]) {
    const found = select && ask(name) && [...select.options].find(option => option.text === ask(name));
    if (found) found.selected = true;
  }
  if (ask("columns") !== null) boxes.forEach(box => { box.checked = ask("columns").split(",").includes(nameOfGroup(box)); });
  const views = (ask("show") || "").split(",");
  intervals.checked = !views.includes("figures");
  if (difference) difference.checked = views.includes("differences");
  filter();
  columns();
  choose();
  const asked = ask("sort"), head = asked && heads.find((each, at) => nameOf(at) === asked.replace(/^-/, ""));
  if (head) by(head, asked[0] === "-" ? "descending" : "ascending");

  // --- CSV
  const quoted = page.quoted;
  const csv = document.querySelector(`button.csv${mine}`);
  if (!csv) return;  // a site has a file
  csv.hidden = false;
  csv.addEventListener("click", () => {
    const lines = ["source,model,label,suite,value,low,high"];
    for (const row of own) for (const cell of row.querySelectorAll("td[data-i]")) {
      lines.push([quoted(table.dataset.source), quoted(row.dataset.model), quoted(row.cells[0].dataset.v),
        suites[cell.cellIndex - FIRST], page.fixed(+cell.dataset.v, 4), ...cell.dataset.i.split(" ")].join(","));
    }
    page.save("leaderboard.csv", `${lines.join("\n")}\n`);
  });
});
