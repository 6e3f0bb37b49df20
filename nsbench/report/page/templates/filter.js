// What a filter asks for: spaces mean and, | means or; rank<=3, clean>97, model:vit and group:adversarial ask for a field.
page.filterOf = (text, table) => {
  "use strict";
  const plain = words => words.toLowerCase().replace(/[\s_-]/g, ""), places = new Map();
  [...table.tHead.rows[1].cells].forEach((head, at) => places.set(plain(head.textContent.split("\u00a0")[0]), at));
  table.dataset.suites.split(" ").forEach((suite, index) => places.set(plain(suite), index + page.FIRST));
  const told = row => row.dataset.text ||= `${row.cells[0].textContent} ${row.dataset.model}`.toLowerCase();
  const signs = { "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b, "=": (a, b) => a === b };
  const figure = (row, at) => at === 1 ? parseFloat(row.cells[1].textContent) : parseFloat(row.cells[at].dataset.v);
  const one = word => {
    const [, name, sign, value] = word.match(/^([^:<>=]+)(:|<=|>=|<|>|=)(.+)$/) || [], at = name && places.get(plain(name));
    if (at !== undefined && signs[sign] && !isNaN(value)) return row => signs[sign](figure(row, at), +value);
    if (name === "model" && sign === ":") return row => row.dataset.model.toLowerCase().includes(value);
    return row => told(row).includes(word);
  };
  const words = text.toLowerCase().split(/\s+/).filter(Boolean), ofColumns = words.filter(word => word.startsWith("group:"));
  const tests = words.filter(word => !ofColumns.includes(word)).map(word => word.split("|").filter(Boolean).map(one));
  const groups = ofColumns.flatMap(word => word.slice(6).split("|")).filter(Boolean);
  const short = title => title.split(" ").map(part => part[0]).join("");
  return {
    row: row => tests.every(some => some.some(test => test(row))),
    group: groups.length ? title => groups.some(group => title.toLowerCase().includes(group) || short(title).toLowerCase() === group) : null,
  };
};
