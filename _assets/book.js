// What only the reader's own window can tell, once its formulas have their size.
(() => {
  const boxes = ".bd-article :is(mjx-container, pre, figure, .output, .pst-scrollable-table-container)";

  // Formulas and outputs wider than the window scroll; a keyboard must be able to reach them.
  function reachable() {
    for (const box of document.querySelectorAll(boxes)) {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  }

  addEventListener("load", () => {
    const article = document.querySelector("article");
    const formulas = window.MathJax?.startup?.promise ?? Promise.resolve();
    if (article) formulas.then(() => new ResizeObserver(reachable).observe(article));
  });
})();
