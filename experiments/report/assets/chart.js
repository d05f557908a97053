'use strict';
// What chart and viewer share: elements, scales with round ticks, and which networks are switched off.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const off = new Set();
const listeners = [];

function make(parent, tag, attributes, text) {
  const svg = parent.namespaceURI === 'http://www.w3.org/2000/svg' || tag === 'svg';
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.append(node);
  return node;
}

// Round numbers along an axis: about so many, at least two.
function ticks(low, high, about) {
  const rough = (high - low) / Math.max(about, 1);
  if (!(rough > 0) || !isFinite(rough)) return [low];
  const ten = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * ten).find((k) => k >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found.length < 2 && about < 8 ? ticks(low, high, Math.max(about, 1) * 2) : found;
}

// Powers of ten, and between them as many as it takes for an axis to be read.
function logTicks(low, high) {
  let found = [];
  for (const parts of [[1], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]) {
    found = [];
    for (let ten = Math.floor(Math.log10(low)); ten <= Math.log10(high); ten++) {
      for (const part of parts) {
        const value = part * 10 ** ten;
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    if (found.length >= 4) return found;
  }
  const even = ticks(low, high, 5);
  return even.length > found.length ? even : found;
}

// A number with as many digits as its neighbours on an axis need.
function digits(value, step) {
  if (Math.abs(value) < Math.abs(step) * 1e-6) return '0';
  const places = Math.max(0, Math.min(12, Math.ceil(-Math.log10(Math.abs(step) || 1) - 1e-9)));
  return value.toFixed(places);
}

function toggleButton(parent, label, colour, pressed, change, dash) {
  const button = make(parent, 'button', { type: 'button', 'aria-pressed': String(pressed) });
  if (colour) {
    const svg = make(button, 'svg', { viewBox: '0 0 18 10', class: 'swatch', 'aria-hidden': 'true' });
    make(svg, 'line', { x1: 0, x2: 18, y1: 5, y2: 5, stroke: colour, 'stroke-width': 3, 'stroke-dasharray': dash || 'none' });
  }
  make(button, 'span', {}, label);
  button.addEventListener('click', () => change(button));
  return button;
}

const DASHES = ['none', '7 3', '2 3', '9 3 2 3', '12 4'];

function batchChart() {
  const root = document.getElementById('chart');
  if (!root) return;
  const data = read('chart-data');
  const drawing = document.getElementById('chart-drawing');
  const hiddenRuns = new Set();
  let chosen = Math.max(0, data.quantities.findIndex((q) => q.name === 'energy_per_image_j'));

  function draw() {
    drawing.replaceChildren();
    const quantity = data.quantities[chosen];
    const width = Math.max(300, Math.min(drawing.clientWidth || 960, 1100));
    const height = width < 560 ? 300 : 400;
    const box = { left: 58, right: width - 12, top: 14, bottom: height - 42 };
    const svg = make(drawing, 'svg', {
      viewBox: `0 0 ${width} ${height}`, role: 'img', 'data-quantity': quantity.name,
      'aria-label': `${quantity.label} against batch size, one line for each network`,
    });
    const shown = data.points.filter((p) => !off.has(data.networks[p.network].name) && !hiddenRuns.has(p.run));
    const values = shown.map((p) => p.values[chosen]).filter((v) => v[0] !== null);
    if (!values.length) {
      make(svg, 'text', { x: width / 2, y: height / 2, 'text-anchor': 'middle' }, 'every network is switched off');
      return;
    }
    const log = quantity.log && values.every((v) => v[0] > 0);
    // An interval that reaches to 0 has no end on a log axis.
    let low = Math.min(...values.map((v) => (log ? Math.max(v[0] - v[1], v[0] / 3) : v[0] - v[1])));
    let high = Math.max(...values.map((v) => v[0] + v[1]));
    if (log) {
      low /= 1.25; high *= 1.25;
    } else {
      const pad = (high - low) * 0.08 || Math.abs(high) * 0.02 || 1;
      low -= pad; high += pad;
    }
    const place = log ? Math.log : (v) => v;
    const y = (v) => box.bottom - (place(Math.min(Math.max(v, low), high)) - place(low)) / (place(high) - place(low)) * (box.bottom - box.top);
    const first = Math.log2(data.batches[0]) - 0.4;
    const last = Math.log2(data.batches[data.batches.length - 1]) + 0.4;
    const x = (batch) => box.left + (Math.log2(batch) - first) / (last - first) * (box.right - box.left);
    const marks = log ? logTicks(low, high) : ticks(low, high, 6);
    for (const mark of marks) {
      make(svg, 'line', { x1: box.left, x2: box.right, y1: y(mark), y2: y(mark), class: 'grid' });
      const text = log ? String(+mark.toPrecision(3)) : digits(mark, marks.length > 1 ? marks[1] - marks[0] : mark);
      make(svg, 'text', { x: box.left - 6, y: y(mark) + 4, 'text-anchor': 'end' }, text);
    }
    for (const batch of data.batches) {
      make(svg, 'line', { x1: x(batch), x2: x(batch), y1: box.bottom, y2: box.bottom + 5, class: 'axis' });
      make(svg, 'text', { x: x(batch), y: box.bottom + 18, 'text-anchor': 'middle' }, String(batch));
    }
    make(svg, 'path', { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, class: 'axis' });
    make(svg, 'text', { x: (box.left + box.right) / 2, y: height - 6, 'text-anchor': 'middle' }, 'batch size [images]');
    make(svg, 'text', { transform: `translate(13 ${(box.top + box.bottom) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, quantity.label);
    const spread = Math.min(7, 60 / data.networks.length);
    data.networks.forEach((network, n) => {
      data.runs.forEach((run, r) => {
        const mine = shown.filter((p) => p.network === n && p.run === r && p.values[chosen][0] !== null)
          .sort((a, b) => a.batch - b.batch);
        if (!mine.length) return;
        const shift = log ? 0 : (n - (data.networks.length - 1) / 2) * spread * 0.5;
        const group = make(svg, 'g', { class: 'series', 'data-network': network.name, 'data-run': r, stroke: network.colour, fill: network.colour });
        const at = mine.map((p) => [x(p.batch) + shift, y(p.values[chosen][0]), p]);
        make(group, 'path', {
          d: at.map((p, k) => `${k ? 'L' : 'M'}${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join(''),
          fill: 'none', 'stroke-width': 1.6, 'stroke-dasharray': DASHES[r % DASHES.length],
        });
        for (const [px, py, p] of at) {
          const [value, half] = p.values[chosen];
          const ends = [y(value - half), y(value + half)].map((end) => end.toFixed(1)), side = (px - 3).toFixed(1);
          const foot = value - half < low ? `M${px.toFixed(1)} ${ends[0]}` : `M${side} ${ends[0]}h6m-3 0`;
          make(group, 'path', { d: `${foot}V${ends[1]}m-3 0h6`, fill: 'none', 'stroke-width': 1 });
          const dot = make(group, 'circle', { cx: px.toFixed(1), cy: py.toFixed(1), r: 3.2 });
          const of = data.runs.length > 1 ? `, ${run.label}` : '';
          make(dot, 'title', {}, `${network.name}, batch ${p.batch}${of}: ${value} ± ${half} ${quantity.label}`);
        }
      });
    });
  }

  const quantities = document.getElementById('chart-quantities');
  data.quantities.forEach((quantity, k) => {
    toggleButton(quantities, quantity.label, '', k === chosen, () => {
      chosen = k;
      [...quantities.children].forEach((b, j) => b.setAttribute('aria-pressed', String(j === k)));
      draw();
    });
  });
  if (data.runs.length > 1) {
    data.runs.forEach((run, k) => {
      toggleButton(document.getElementById('chart-runs'), `${run.device} · ${run.label}`, '#444', true, (button) => {
        hiddenRuns.has(k) ? hiddenRuns.delete(k) : hiddenRuns.add(k);
        button.setAttribute('aria-pressed', String(!hiddenRuns.has(k)));
        draw();
      }, DASHES[k % DASHES.length]);
    });
  }
  const names = document.getElementById('chart-networks');
  const buttons = data.networks.map((network) => {
    const button = toggleButton(names, network.name, network.colour, true, () => {
      off.has(network.name) ? off.delete(network.name) : off.add(network.name);
      listeners.forEach((changed) => changed());
    });
    button.dataset.network = network.name;
    return button;
  });
  if (data.networks.length > 2) {
    for (const [label, none] of [['all on', false], ['all off', true]]) {
      const button = make(names, 'button', { type: 'button', class: 'plain' }, label);
      button.addEventListener('click', () => {
        off.clear();
        if (none) data.networks.forEach((network) => off.add(network.name));
        listeners.forEach((changed) => changed());
      });
    }
  }
  listeners.push(() => buttons.forEach((b) => b.setAttribute('aria-pressed', String(!off.has(b.dataset.network)))));
  listeners.push(draw);
  draw();
  return draw;
}
