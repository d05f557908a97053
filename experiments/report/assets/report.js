// Rows of tables follow their networks; drawings follow the width of the window, and of the paper.
listeners.push(() => {
  for (const row of document.querySelectorAll('tr[data-network]')) row.classList.toggle('off', off.has(row.dataset.network));
});
const redraw = [batchChart(), waveformViewer()].filter(Boolean);
let waiting = 0;
window.addEventListener('resize', () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => redraw.forEach((draw) => draw()), 120);
});
