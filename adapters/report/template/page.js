"use strict";
(function () {
  var root = document.documentElement, theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  function value(row, column) {
    var cell = row.cells[column], sort = cell.dataset.sort;
    return sort === undefined ? cell.textContent.trim().toLowerCase() : sort === "" ? null : Number(sort);
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    var heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        var down = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", down === -1 ? "descending" : "ascending");
        var rows = Array.from(table.tBodies[0].rows);
        rows.sort(function (a, b) {
          var x = value(a, column), y = value(b, column);
          if (x === null || y === null) return (x === null) - (y === null);
          return (x < y ? -1 : x > y ? 1 : 0) * down;
        });
        rows.forEach(function (row) { table.tBodies[0].appendChild(row); });
      });
    });
  });
  var search = document.getElementById("search"), which = document.getElementById("which"), count = document.getElementById("count");
  if (search) {
    var rows = Array.from(document.querySelectorAll("#rows tbody tr"));
    var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
    var filter = function () {
      var text = search.value.toLowerCase(), kind = which.value, shown = 0;
      rows.forEach(function (row, i) {
        var fits = kind === "all" || (kind === "differ" ? row.dataset.differ === "1" : JSON.parse(row.dataset.wrong).indexOf(kind.slice(6)) >= 0);
        row.hidden = !(fits && texts[i].indexOf(text) >= 0);
        shown += !row.hidden;
      });
      count.textContent = shown + " rows";
    };
    search.addEventListener("input", filter);
    which.addEventListener("change", filter);
    filter();
  }
  document.querySelectorAll("input[type=range]").forEach(function (slider) {
    var table = JSON.parse(slider.dataset.table), out = document.getElementById(slider.id + "-value");
    var show = function () {
      var row = table[Number(slider.value)];
      out.textContent = "threshold " + row.threshold.toFixed(2) + ": precision " + row.precision.toFixed(3) + ", recall " + row.recall.toFixed(3) + ", F1 " + row.f1.toFixed(3) + ", all labels right " + row.exact.toFixed(3);
    };
    slider.addEventListener("input", show);
    show();
  });
  addEventListener("beforeprint", function () { document.querySelectorAll("details").forEach(function (d) { d.open = true; }); });
})();
