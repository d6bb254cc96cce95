// The table of all clips: searched, sorted, and a page at a time; a clip with a preview is a link to it.
(() => {
  const PAGE = 25;
  const get = id => document.getElementById(id);
  const data = JSON.parse(get("clip-data").textContent);
  const [search, columns, sorts, count, table, more] =
    ["clip-search", "clip-columns", "clip-sort", "clip-count", "clip-rows", "clip-more"].map(get);
  if (!data.rows.length) return;
  const plain = text => text.normalize("NFC").toLowerCase();
  const rows = data.rows.map(([method, clip, reason, ...values], i) => ({
    i, method: data.methods[method], clip: data.clips[clip], reason, values,
    text: plain(`${data.methods[method].name} ${data.clips[clip].name} ${reason ?? ""}`),
  }));
  const byName = (a, b) => a.clip.name < b.clip.name ? -1 : a.clip.name > b.clip.name ? 1 : a.i - b.i;
  let key = "clip", ascending = true, shown = PAGE;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const format = (value, metric) => value === null ? "–" : value.toFixed(metric.decimals).replace("-", "−");
  const chosen = () => (data.sets[columns.value] ?? {metrics: []}).metrics;
  const keys = () => [["method", "Method"], ["clip", "Clip"], ...chosen().map(m => [String(m), data.metrics[m].title])];

  // Rows without a number come last, whatever the direction.
  function compare(a, b) {
    const sign = ascending ? 1 : -1;
    if (key === "clip") return sign * byName(a, b);
    if (key === "method") return sign * (a.i - b.i);
    const [x, y] = [a.values[key], b.values[key]];
    if (x === null || y === null) return (x === null) - (y === null) || byName(a, b);
    return sign * (x - y) || byName(a, b);
  }

  function found() {
    const words = plain(search.value).split(/\s+/).filter(Boolean);
    const hidden = new Set([...document.querySelectorAll("#method-tools input:not(:checked)")].map(box => box.value));
    return rows.filter(row => !hidden.has(row.method.type) && words.every(word => row.text.includes(word))).sort(compare);
  }

  function line(row) {
    const {preview, name} = row.clip;
    const clip = preview === null ? name : element("a", {href: `#preview-${preview}`}, name);
    const made = element("tr", {},
      element("th", {scope: "row"}, row.method.name, element("span", {className: "tag"}, row.method.words)),
      cell("Clip", clip, "text"));
    if (row.reason !== null) {
      const failed = cell("No score", element("span", {className: "reason"}, row.reason), "text");
      failed.colSpan = Math.max(1, chosen().length);
      made.append(failed);
    } else {
      made.append(...chosen().map(m => cell(data.metrics[m].title, format(row.values[m], data.metrics[m]))));
    }
    return made;
  }

  function cell(label, content, className = "") {
    const made = element("td", {className}, content);
    made.dataset.label = label;
    return made;
  }

  function show() {
    const all = found();
    table.tBodies[0].replaceChildren(...all.slice(0, shown).map(line));
    count.textContent = all.length > shown ? `${shown} of ${all.length} rows` : `${all.length} row${all.length === 1 ? "" : "s"}`;
    more.hidden = all.length <= shown;
    for (const head of table.tHead.rows[0].cells) {
      if (head.dataset.key === key) head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    }
    sorts.value = key;
  }

  function restart() {
    shown = PAGE;
    show();
  }

  // The worst clips come first: they are what a reader looks for.
  function sort(by) {
    ascending = by === key ? !ascending : !(data.metrics[by]?.better < 0);
    key = by;
    restart();
  }

  function heads() {
    if (!keys().some(([each]) => each === key)) [key, ascending] = ["clip", true];
    const cells = keys().map(([each, title], i) => {
      const button = element("button", {type: "button", className: "sort"}, title);
      const unit = data.metrics[each]?.unit;
      if (unit) button.append(" ", element("small", {}, unit));
      button.addEventListener("click", () => sort(each));
      const head = element("th", {scope: "col", className: i === 1 ? "text" : ""}, button);
      head.dataset.key = each;
      return head;
    });
    table.tHead.replaceChildren(element("tr", {}, ...cells));
    sorts.replaceChildren(...keys().map(([each, title]) => element("option", {value: each}, title)));
    restart();
  }

  search.addEventListener("input", restart);
  columns.addEventListener("change", heads);
  sorts.addEventListener("change", () => sort(sorts.value));
  more.addEventListener("click", () => { shown += PAGE; show(); });
  document.addEventListener("types", restart);
  get("clip-tools").hidden = false;
  heads();
})();
