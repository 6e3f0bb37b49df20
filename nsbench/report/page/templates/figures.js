// Every figure as a file: SVG with the page's colours in it, PNG of that, CSV of the numbers beside it.
(() => {
  "use strict";
  const NS = "http://www.w3.org/2000/svg";
  const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity", "paint-order", "text-anchor", "font-size", "font-family", "font-weight"];
  const make = (name, attributes, text) => {
    const one = document.createElementNS(NS, name);
    for (const key in attributes) one.setAttribute(key, attributes[key]);
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const plain = colour => {  // as other programs read it, whatever the browser calls it
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
    return alpha ? `rgb(${red},${green},${blue})` : "none";
  };
  const sheet = (width, height, parts) => {
    const found = make("svg", { xmlns: NS, width, height, viewBox: `-12 -12 ${width} ${height}` });
    found.append(make("rect", { x: -12, y: -12, width, height, fill: plain(getComputedStyle(document.querySelector(".card, .scroll")).backgroundColor) }), ...parts);
    return found;
  };
  const ofChart = chart => {
    const copy = chart.cloneNode(true), box = chart.viewBox.baseVal, from = [chart, ...page.all("*", chart)];
    [copy, ...page.all("*", copy)].forEach((one, at) => {
      const style = getComputedStyle(from[at]);
      for (const key of KEPT) one.setAttribute(key, /fill|stroke$/.test(key) && style[key] !== "none" ? plain(style.getPropertyValue(key)) : style.getPropertyValue(key));
      one.removeAttribute("class");
    });
    for (const [key, value] of [["width", box.width], ["height", box.height], ["overflow", "visible"]]) copy.setAttribute(key, value);
    return sheet(box.width + 24, box.height + 24, [copy]);
  };
  const ofTable = table => {  // a map of errors: a box and a text for each cell
    const whole = table.getBoundingClientRect();
    const parts = page.all("caption, th, td", table).flatMap(cell => {
      const box = cell.getBoundingClientRect(), style = getComputedStyle(cell), right = style.textAlign === "right", middle = style.textAlign === "center";
      const inner = { x: box.x - whole.x, y: box.y - whole.y }, pad = parseFloat(style.paddingRight);
      const fill = plain(style.backgroundColor), text = cell.querySelector(".sr") ? "" : cell.textContent;
      return [...(fill === "none" ? [] : [make("rect", { ...inner, width: box.width, height: box.height, rx: 3, fill })]),
        make("text", { x: inner.x + (right ? box.width - pad : middle ? box.width / 2 : 0), y: inner.y + box.height / 2 + 4, fill: plain(style.color),
          "text-anchor": right ? "end" : middle ? "middle" : "start", "font-size": style.fontSize, "font-family": style.fontFamily, "font-weight": style.fontWeight }, text)];
    });
    return sheet(whole.width + 24, whole.height + 24, parts);
  };
  const drawn = figure => figure.querySelector("svg.chart") ? ofChart(figure.querySelector("svg.chart")) : ofTable(figure.querySelector("table"));
  const text = figure => new XMLSerializer().serializeToString(drawn(figure));
  const csv = figure => figure.dataset.csv || page.all("table tr", figure).map(line => [...line.cells].map(cell => page.quoted(cell.textContent.replace(/^−(?=[\d.]+$)/, "-"))).join(",")).join("\n") + "\n";
  const png = figure => new Promise((done, failed) => {
    const image = new Image(), source = drawn(figure), canvas = document.createElement("canvas");
    image.onerror = failed;
    image.onload = () => {
      canvas.width = 3 * source.getAttribute("width");
      canvas.height = 3 * source.getAttribute("height");
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(done, "image/png");
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(source))}`;
  });
  const KINDS = { SVG: text, PNG: png, CSV: csv };
  page.all("figure[data-name]").forEach(figure => {
    const row = document.createElement("div");
    row.className = "files";
    for (const kind of Object.keys(KINDS)) {
      if (kind === "CSV" && !figure.dataset.csv && !figure.querySelector("table")) continue;  // left out of a long page
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.setAttribute("aria-label", `${kind} of ${figure.dataset.name}`);
      button.addEventListener("click", async () => page.save(`${figure.dataset.name.replace(/[^\w.-]+/g, "-")}.${kind.toLowerCase()}`, await KINDS[kind](figure)));
      row.append(button);
    }
    figure.append(row);
  });
})();
