"use strict";
// Filters, and arrow keys in the tables; everything else on this page needs no script.
{
  const form = document.querySelector(".choices");
  const tables = [...document.querySelectorAll(".clauses table")];
  const rows = tables.flatMap((table) => [...table.querySelectorAll("tr[data-level]")].map((row) => ({
    row,
    level: row.dataset.level,
    area: row.parentNode.dataset.area,
    text: row.cells[0].textContent.toLowerCase(),
    names: [...table.rows[0].cells].slice(1).map((cell) => cell.dataset.target),
    kinds: [...row.cells].slice(1).map((cell) => cell.firstChild.className),
  })));
  const QUIET = new Set(["", "conforms", "not-applicable"]);

  function wanted(one, { words, area, level, target, differs }) {
    const kinds = target.value ? one.kinds.filter((_, at) => one.names[at] === target.value) : one.kinds;
    return (!area.value || one.area === area.value)
      && (!level.value || one.level === level.value)
      && kinds.some((kind) => differs.checked ? !QUIET.has(kind) : kind)
      && words.value.toLowerCase().split(/\s+/).every((word) => one.text.includes(word));
  }

  function choose() {
    let number = 0;
    for (const one of rows) number += !(one.row.hidden = !wanted(one, form.elements));
    for (const body of document.querySelectorAll("tbody[data-area]")) body.hidden = !body.querySelector("tr[data-level]:not([hidden])");
    for (const box of document.querySelectorAll(".box.clauses")) box.hidden = !box.querySelector("tbody:not([hidden])");
    form.querySelector("output").value = `${number} of ${rows.length} clauses`;
    tables.forEach(enter);
  }

  // One cell of a table is in the tab order; arrow keys go on from there.
  const shown = (table) => [...table.querySelectorAll("tr[data-level]:not([hidden])")];

  function enter(table) {
    if (table.querySelector("tr:not([hidden]) button[tabindex='0']")) return;
    for (const cell of table.querySelectorAll("td button")) cell.tabIndex = -1;
    const first = table.querySelector("tbody:not([hidden]) tr:not([hidden]) td button");
    if (first) first.tabIndex = 0;
  }

  function next(key, cell, all) {
    const own = [...cell.parentNode.querySelectorAll("button")], at = own.indexOf(cell.firstChild);
    const along = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: own.length - 1 }[key];
    if (along !== undefined) return own[along];
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[key];
    const to = all.indexOf(cell.parentNode) + step, last = all.length - 1;
    return step && all[Math.max(0, Math.min(to, last))].cells[cell.cellIndex].querySelector("button");
  }

  function go(event) {
    const cell = event.target.closest("td");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const found = next(event.key, cell, shown(event.currentTarget));
    if (!found) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    found.tabIndex = 0;
    found.focus();
  }

  if (form) {
    form.hidden = false;
    form.addEventListener("input", choose);
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const table of tables) {
      table.setAttribute("role", "grid");
      table.addEventListener("keydown", go);
      table.addEventListener("click", ({ target }) => {
        if (!target.closest("td button")) return;
        for (const cell of table.querySelectorAll("button[tabindex='0']")) cell.tabIndex = -1;
        target.closest("td button").tabIndex = 0;
      });
    }
    choose();
  }
}
