// Any two rows of a table beside each other, from the pairs that the page brings.
page.all(".compare").forEach(part => {
  "use strict";
  const { all, figure, signed, pvalue } = page;
  const form = part.querySelector("form"), table = part.querySelector("table"), pair = page.pairsOf(part);
  const scores = document.getElementById(part.id.replace("-compare", "-scores")), suites = scores.dataset.suites.split(" ");
  const rows = [], heads = scores.tHead.rows[1].cells;
  all("tbody.own tr", scores).forEach(row => { rows[row.dataset.r] = row; });
  const { first, second, swap } = form.elements;
  const lines = suites.map((suite, at) => [suite, at + page.FIRST]);

  const fill = () => {
    const one = +first.value, two = +second.value;
    [one, two].forEach((row, place) => {
      const who = table.tHead.rows[0].cells[place + 1];
      who.firstElementChild.className = rows[row].querySelector(".key").className;
      who.lastElementChild.textContent = rows[row].cells[0].dataset.v;
    });
    const found = lines.map(([suite, at]) => [suite, at, pair(suite, one, two)]).filter(([, , delta]) => delta);
    const most = Math.max(...found.map(([, , delta]) => Math.max(Math.abs(delta.low), Math.abs(delta.high))));
    const body = table.tBodies[0];
    body.replaceChildren(...found.map(([suite, at, delta]) => {
      const [a, b] = [one, two].map(row => +rows[row].cells[at].dataset.v), { value } = delta;
      const head = heads[at].firstElementChild, better = head.dataset.down === "1" ? value < 0 : value > 0;
      const verdict = (delta.p > .05 ? "not separable" : better ? "better" : "worse") +
        ([one, two].some(row => "once" in rows[row].dataset) ? " (these weights)" : "");
      const row = document.createElement("tr"), name = document.createElement("th");
      row.dataset.suite = suite;
      name.scope = "row";
      name.textContent = `${head.firstChild.data.trim()} ${head.dataset.down === "1" ? "↓" : "↑"}`;
      row.append(name);
      const texts = [figure(a), figure(b), signed(value), `${signed(delta.low)} to ${signed(delta.high)}`, "",
        delta.only ? delta.only.map(many => page.fixed(many, delta.only.every(Number.isInteger) ? 0 : 1)).join(" / ") : "–", pvalue(delta.p), verdict];
      const classes = ["", "", "change", "", "w graph", "", "", `verdict ${verdict.split(" ")[0]}`];
      texts.forEach((text, index) => {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.className = classes[index];
      });
      page.whisker(row.querySelector(".graph"), delta.low, value, delta.high, most);
      return row;
    }));
    if (!found.length) body.insertRow().insertCell().textContent = one === two ? "This is one and the same row." : "Nothing that both have may be compared.";
  };
  const keys = [first, second].map((select, place) => [select, `${part.id}${place + 1}`, select.selectedOptions[0].text]);
  const told = () => keys.forEach(([select, key, usual]) => page.state.set(key, select.selectedOptions[0].text, usual));
  keys.forEach(([select, key]) => {
    const found = page.state.get(key), option = found && [...select.options].find(one => one.text === found);
    if (option) option.selected = true;
  });
  if (keys.some(([select, , usual]) => select.selectedOptions[0].text !== usual)) fill();
  const choose = (one, two) => { [first.value, second.value] = [one, two]; fill(); told(); };
  all("a[data-compare]", part.parentNode).forEach(link => link.addEventListener("click", () => choose(...link.dataset.compare.split(" "))));
  form.hidden = false;
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("change", () => { fill(); told(); });
  swap.addEventListener("click", () => choose(second.value, first.value));
  // c over a row, or with the focus in it: that row with its control
  const own = scores.tBodies[0];
  addEventListener("keydown", event => {
    if (event.key !== "c" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const row = [document.activeElement.closest("tr"), ...all("tr:hover", own)].find(each => each && each.parentNode === own && each.dataset.ref !== undefined);
    if (!row) return;
    choose(row.dataset.r, row.dataset.ref);
    part.scrollIntoView();
    first.focus({ preventScroll: true });
  });
});
