// What is under the pointer says which run it is; without this script, the browser's own titles do.
(() => {
  const box = document.getElementById("hover");
  let marked = null;
  for (const title of document.querySelectorAll("svg g.tip > title")) {
    title.parentNode.tip = title.textContent;
    title.remove();
  }
  const near = [[0, 0], [0, -4], [0, 4], [-4, 0], [4, 0]];
  function find(x, y) {
    for (const [dx, dy] of near) {
      const hit = document.elementFromPoint(x + dx, y + dy);
      const group = hit && hit.closest("g.tip");
      if (group) return group;
    }
    return null;
  }
  function show(event) {
    const group = event.target.closest && event.target.closest("svg")
      ? find(event.clientX, event.clientY) : null;
    if (marked !== group) {
      if (marked) marked.classList.remove("on");
      if (group) group.classList.add("on");
      marked = group;
      box.hidden = !group;
      if (group) box.textContent = group.tip;
    }
    if (group) {
      const right = Math.max(8, innerWidth - box.offsetWidth - 8);
      box.style.left = Math.min(event.clientX + 14, right) + "px";
      const below = event.clientY + 18;
      const fits = below + box.offsetHeight < innerHeight;
      box.style.top = (fits ? below : event.clientY - box.offsetHeight - 12) + "px";
    }
  }
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
})();
