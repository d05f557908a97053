// The waveform viewer: one capture at a time, from the whole record down to its samples.
const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// Smallest, mean and largest code of each stretch; 0 is no reading.
function stretches(channel) {
  const raw = bytesOf(channel.stretches);
  const codes = new Uint16Array(raw.buffer, 0, raw.length >> 1);
  const n = codes.length / 3;
  const found = { low: new Float64Array(n), mean: new Float64Array(n), high: new Float64Array(n), size: channel.size };
  for (let k = 0; k < n; k++) {
    const empty = codes[2 * n + k] === 0;
    const three = [0, 1, 2].map((row) => (empty ? NaN : channel.slope * codes[row * n + k] + channel.intercept));
    found.low[k] = Math.min(three[0], three[2]);
    found.mean[k] = three[1];
    found.high[k] = Math.max(three[0], three[2]);
  }
  return found;
}

async function codesOf(packed, count) {
  const stream = new Blob([bytesOf(packed.packed)]).stream().pipeThrough(new DecompressionStream('deflate'));
  const planes = new Uint8Array(await new Response(stream).arrayBuffer());
  const codes = new Uint16Array(count);
  let last = 0;
  for (let k = 0; k < count; k++) {
    const folded = planes[k] | (planes[count + k] << 8);
    last = (last + ((folded >> 1) ^ -(folded & 1))) & 0xffff;
    codes[k] = last * packed.step + packed.base;
  }
  return codes;
}

function valuesOf(codes, channel) {
  const found = new Float64Array(codes.length);
  for (let k = 0; k < codes.length; k++) found[k] = codes[k] ? channel.slope * codes[k] + channel.intercept : NaN;
  return found;
}

function waveformViewer() {
  const root = document.getElementById('viewer');
  if (!root) return;
  const data = read('viewer-data');
  const select = document.getElementById('viewer-capture');
  const about = document.getElementById('viewer-about');
  const drawing = document.getElementById('viewer-drawing');
  const range = document.getElementById('viewer-range');
  const reading = document.getElementById('viewer-reading');
  const several = new Set(data.captures.map((c) => c.run)).size > 1;
  const labels = read('chart-data').runs.map((run) => run.label);
  const colours = { current: '#08519c', voltage: '#006d2c', power: '#7a0177' };
  let shown = null; // the capture, with its values
  let from = 0, to = 1; // visible samples [from, to)
  let cursor = null;
  let svg = null, box = null;

  const name = (capture) => `${several ? labels[capture.run] + ': ' : ''}${capture.label}`;

  function list() {
    const kept = select.value;
    select.replaceChildren();
    data.captures.forEach((capture, k) => {
      if (capture.network && off.has(capture.network)) return;
      const every = capture.samples ? ' · every sample' : '';
      make(select, 'option', { value: k }, `${name(capture)}${every}`);
    });
    if ([...select.options].some((option) => option.value === kept)) select.value = kept;
    if (!shown || select.value !== kept) open(Number(select.value || data.default));
  }

  async function open(number) {
    const capture = data.captures[number];
    if (!capture) return;
    const current = stretches(capture.current), voltage = stretches(capture.voltage);
    const n = current.low.length;
    const power = { low: new Float64Array(n), mean: new Float64Array(n), high: new Float64Array(n), size: current.size };
    for (let k = 0; k < n; k++) {
      const ends = [current.low[k] * voltage.low[k], current.low[k] * voltage.high[k], current.high[k] * voltage.low[k], current.high[k] * voltage.high[k]];
      power.low[k] = Math.min(...ends);
      power.high[k] = Math.max(...ends);
      power.mean[k] = current.mean[k] * voltage.mean[k];
    }
    const mine = { capture, glance: { current, voltage, power }, samples: null };
    shown = mine;
    from = 0; to = Math.max(capture.points, 1); cursor = null;
    draw();
    if (!capture.samples) return;
    if (typeof DecompressionStream === 'undefined') {
      about.textContent += ' This browser cannot unpack the single samples: stretches are shown.';
      return;
    }
    const packed = capture.samples;
    const codes = {};
    for (const name of ['current', 'voltage']) codes[name] = await codesOf(packed[name], packed.count);
    const i = valuesOf(codes.current, capture.current), v = valuesOf(codes.voltage, capture.voltage);
    mine.samples = { first: packed.first, count: packed.count, codes, current: i, voltage: v, power: i.map((a, k) => a * v[k]) };
    if (shown === mine) draw();
  }

  const time = (sample) => shown.capture.start_s + sample * shown.capture.dt_s;
  const unit = () => {
    const span = (to - from) * shown.capture.dt_s;
    return span > 2 ? ['s', 1] : span > 2e-3 ? ['ms', 1e3] : ['µs', 1e6];
  };

  // What there is to draw between two samples: every sample, or smallest to largest of each column.
  function points(name, columns) {
    const s = shown.samples;
    if (s && from >= s.first && to <= s.first + s.count) {
      const a = Math.floor(from) - s.first, b = Math.ceil(to) - s.first;
      const values = s[name];
      if (b - a <= 2 * columns) {
        const found = [];
        for (let k = Math.max(a, 0); k < Math.min(b, values.length); k++) found.push([k + s.first, values[k], values[k], values[k]]);
        return { kind: 'samples', found };
      }
      const found = [], step = (b - a) / columns;
      for (let c = 0; c < columns; c++) {
        const begin = Math.floor(a + c * step), end = Math.min(Math.floor(a + (c + 1) * step), values.length);
        let low = Infinity, high = -Infinity, sum = 0, count = 0;
        for (let k = begin; k < end; k++) {
          const value = values[k];
          if (value !== value) continue;
          if (value < low) low = value;
          if (value > high) high = value;
          sum += value; count++;
        }
        found.push(count ? [(begin + end - 1) / 2 + s.first, low, sum / count, high] : [begin + s.first, NaN, NaN, NaN]);
      }
      return { kind: 'columns', found, size: step };
    }
    const g = shown.glance[name], found = [];
    for (let k = Math.max(Math.floor(from / g.size), 0); k < g.low.length && k * g.size < to; k++) {
      const end = Math.min((k + 1) * g.size, shown.capture.points);
      found.push([(k * g.size + end - 1) / 2, g.low[k], g.mean[k], g.high[k]]);
    }
    return { kind: 'stretches', found, size: g.size };
  }

  function level(line, sample) {
    let a = 0, b = line.changes.length;
    while (a < b) { const m = (a + b) >> 1; line.changes[m] <= sample ? (a = m + 1) : (b = m); }
    return line.high !== (a % 2 === 1);
  }

  // Stretches [begin, end) in which a line is high, of those that are visible.
  function highs(line) {
    const ends = [0, ...line.changes, shown.capture.points], found = [];
    let high = line.high;
    for (let k = 0; k + 1 < ends.length; k++, high = !high) {
      if (high && ends[k + 1] > from && ends[k] < to) found.push([Math.max(ends[k], from), Math.min(ends[k + 1], to)]);
    }
    return found;
  }

  function draw() {
    if (!shown) return;
    const capture = shown.capture;
    const focused = document.activeElement === svg;
    drawing.replaceChildren();
    const width = Math.max(300, Math.min(drawing.clientWidth || 960, 1200));
    const panels = [['current', 'current [A]', 120], ['voltage', 'voltage [V]', 90], ['power', 'power [W]', 120]];
    const gap = 14, lines = 46;
    const height = panels.reduce((sum, p) => sum + p[2] + gap, 0) + lines + 44;
    svg = make(drawing, 'svg', {
      viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: 'application', class: 'waves',
      'aria-label': `current, voltage and power over time: ${capture.label}; plus and minus zoom, arrows move`,
      'data-from': from, 'data-to': to,
    });
    box = { left: 58, right: width - 22, width, height };
    const x = (sample) => box.left + (sample - from) / (to - from) * (box.right - box.left);
    const gates = highs(capture.gate);
    let top = 6, kind = '', size = 0;
    const changes = capture.batch.changes.filter((k) => k >= from && k <= to);
    const bottom = height - 40;
    for (const [a, b] of gates) make(svg, 'rect', { x: x(a - 0.5 < from ? from : a - 0.5), width: Math.max(x(b - 0.5) - x(a - 0.5), 0.5), y: top, height: bottom - top, class: 'gate' });
    if (changes.length <= 300) for (const k of changes) make(svg, 'line', { x1: x(k - 0.5), x2: x(k - 0.5), y1: top, y2: bottom, class: 'edge' });
    for (const [name, label, tall] of panels) {
      const columns = Math.round(box.right - box.left);
      const told = points(name, columns);
      kind = told.kind; size = told.size;
      const known = told.found.filter((p) => p[1] === p[1]);
      let low = Infinity, high = -Infinity;
      for (const p of known) { if (p[1] < low) low = p[1]; if (p[3] > high) high = p[3]; }
      if (!(high >= low)) { low = 0; high = 1; }
      const pad = (high - low) * 0.08 || Math.abs(high) * 1e-3 || 1;
      low -= pad; high += pad;
      const y0 = top, y1 = top + tall;
      const y = (v) => y1 - (v - low) / (high - low) * (y1 - y0);
      const marks = ticks(low, high, tall / 32);
      const step = marks.length > 1 ? marks[1] - marks[0] : high - low;
      for (const mark of marks) {
        make(svg, 'line', { x1: box.left, x2: box.right, y1: y(mark), y2: y(mark), class: 'grid' });
        make(svg, 'text', { x: box.left - 6, y: y(mark) + 4, 'text-anchor': 'end' }, digits(mark, step));
      }
      make(svg, 'path', { d: `M${box.left} ${y0}V${y1}H${box.right}`, class: 'axis' });
      make(svg, 'text', { transform: `translate(13 ${(y0 + y1) / 2}) rotate(-90)`, 'text-anchor': 'middle' }, label);
      const group = make(svg, 'g', { 'data-panel': name, 'data-kind': kind });
      if (kind !== 'samples' && known.length) {
        const up = known.map((p) => `${x(p[0]).toFixed(1)} ${y(p[3]).toFixed(1)}`);
        const down = known.map((p) => `${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).reverse();
        make(group, 'path', { d: `M${up.join('L')}L${down.join('L')}Z`, fill: colours[name], opacity: 0.3 });
      }
      let d = '', open = false;
      for (const p of told.found) {
        if (p[2] !== p[2]) { open = false; continue; }
        d += `${open ? 'L' : 'M'}${x(p[0]).toFixed(2)} ${y(p[2]).toFixed(2)}`;
        open = true;
      }
      make(group, 'path', { d, fill: 'none', stroke: colours[name], 'stroke-width': kind === 'samples' ? 1.2 : 0.9 });
      if (kind === 'samples' && known.length <= 120) {
        for (const p of known) {
          const dot = make(group, 'circle', { cx: x(p[0]).toFixed(2), cy: y(p[2]).toFixed(2), r: 2.4, fill: colours[name], 'data-sample': p[0], 'data-value': p[2] });
          make(dot, 'title', {}, `sample ${p[0]}: ${label.split(' ')[0]} ${p[2].toPrecision(7)}`);
        }
      }
      top += tall + gap;
    }
    [['gate', '#555', 0], ['batch', '#d94801', 23]].forEach(([name, colour, down]) => {
      const line = capture[name], y = (high) => top + down + (high ? 2 : 16);
      let state = level(line, from), d = `M${x(from)} ${y(state)}`;
      const visible = line.changes.filter((k) => k > from && k < to);
      for (const k of visible) { state = !state; d += `H${x(k - 0.5).toFixed(2)}V${y(state)}`; }
      make(svg, 'path', { d: `${d}H${x(to)}`, fill: 'none', stroke: colour, 'stroke-width': 1.2, 'data-line': name, 'data-changes': visible.length });
      make(svg, 'text', { x: box.left - 6, y: top + down + 14, 'text-anchor': 'end' }, name);
    });
    const [word, factor] = unit();
    const marks = ticks(time(from) * factor, time(to) * factor, (box.right - box.left) / 110);
    const step = marks.length > 1 ? marks[1] - marks[0] : 1;
    for (const mark of marks) {
      const at = x((mark / factor - capture.start_s) / capture.dt_s);
      make(svg, 'line', { x1: at, x2: at, y1: bottom, y2: bottom + 5, class: 'axis' });
      make(svg, 'text', { x: at, y: bottom + 18, 'text-anchor': 'middle' }, digits(mark, step));
    }
    make(svg, 'path', { d: `M${box.left} ${bottom}H${box.right}`, class: 'axis' });
    make(svg, 'text', { x: (box.left + box.right) / 2, y: height - 5, 'text-anchor': 'middle' }, `time from the trigger [${word}]`);
    svg.dataset.kind = kind;
    tell(kind, size);
    drawCursor();
    if (focused) svg.focus({ preventScroll: true });
    listen();
  }

  function tell(kind, size) {
    const c = shown.capture, dt = c.dt_s;
    const place = (s) => (s * 1e3).toFixed(Math.max(1, Math.ceil(-Math.log10(dt * 1e3)) + 1));
    const n = Math.round(to - from);
    const how = kind === 'samples' ? 'every sample' : `smallest to largest and mean of ${size >= 10 ? Math.round(size) : size.toFixed(1)} samples each`;
    range.textContent = `${place(time(from))} ms to ${place(time(to))} ms, ${n} of ${c.points} samples: ${how}`;
    const facts = [`${c.points} samples, ${(dt * 1e6).toPrecision(4)} µs apart`];
    facts.push(c.corrected ? 'corrected as the results are' : 'uncorrected: no calibration');
    if (!shown.samples) facts.push(c.samples ? 'samples are being unpacked' : 'in this file as stretches only; every sample is in the trace file');
    else if (c.samples.count < c.points) facts.push(`every sample from ${place(time(c.samples.first))} to ${place(time(c.samples.first + c.samples.count))} ms, stretches elsewhere`);
    if (c.gate.more || c.batch.more) facts.push(`${c.gate.more + c.batch.more} more edges of the lines are not shown`);
    if (c.reason) facts.push(`not used: ${c.reason}`);
    about.textContent = `${name(c)}: ${facts.join('; ')}.`;
  }

  function drawCursor() {
    svg.querySelector('.cursor')?.remove();
    delete svg.dataset.sample;
    if (cursor === null || cursor < from || cursor > to) { reading.textContent = ''; return; }
    const at = box.left + (cursor - from) / (to - from) * (box.right - box.left);
    make(svg, 'line', { x1: at, x2: at, y1: 4, y2: box.height - 40, class: 'cursor' });
    const s = shown.samples, c = shown.capture, k = Math.round(cursor);
    const lines = `gate ${level(c.gate, k) ? 'high' : 'low'}, batch ${level(c.batch, k) ? 'high' : 'low'}`;
    if (s && k >= s.first && k < s.first + s.count) {
      const j = k - s.first;
      Object.assign(svg.dataset, { sample: k, current: s.current[j], voltage: s.voltage[j], codes: `${s.codes.current[j]} ${s.codes.voltage[j]}` });
      reading.textContent = `sample ${k}, ${(time(k) * 1e3).toFixed(3)} ms: ${s.current[j].toPrecision(5)} A, ${s.voltage[j].toPrecision(5)} V, ${s.power[j].toPrecision(5)} W; ${lines}`;
    } else {
      const g = shown.glance, j = Math.min(Math.floor(k / g.current.size), g.current.mean.length - 1);
      const mean = ['current', 'voltage', 'power'].map((n) => g[n].mean[j].toPrecision(5));
      reading.textContent = `about ${(time(k) * 1e3).toFixed(3)} ms, mean of ${g.current.size} samples: ${mean[0]} A, ${mean[1]} V, ${mean[2]} W; ${lines}`;
    }
  }

  function show(a, b) {
    const all = shown.capture.points;
    const span = Math.min(Math.max(b - a, 10), all);
    const begin = Math.min(Math.max((a + b) / 2 - span / 2, 0), all - span);
    from = span <= 4000 ? Math.round(begin) : begin;
    to = span <= 4000 ? Math.round(begin + span) : begin + span;
    draw();
  }
  const zoom = (factor, at) => {
    const middle = at === undefined ? (from + to) / 2 : at;
    show(middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  const move = (share) => show(from + share * (to - from), to + share * (to - from));

  function loop() {
    const gates = highs({ ...shown.capture.gate });
    return gates.reduce((best, g) => (!best || g[1] - g[0] > best[1] - best[0] ? g : best), null);
  }
  const actions = {
    in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.25), right: () => move(0.25),
    all: () => show(0, shown.capture.points),
    gate: () => {
      from = 0; to = shown.capture.points;
      const found = loop();
      if (found) show(found[0] - (found[1] - found[0]) * 0.03, found[1] + (found[1] - found[0]) * 0.03); else draw();
    },
    one: () => {
      const edges = shown.capture.batch.changes, k = Math.floor(edges.length / 2);
      if (edges.length < 2) return actions.gate();
      const a = edges[Math.max(k - 1, 0)], b = edges[Math.max(k, 1)];
      show(a - (b - a) * 0.35, b + (b - a) * 0.35);
    },
    samples: () => {
      const s = shown.samples, middle = cursor !== null && cursor >= from && cursor <= to ? cursor : (from + to) / 2;
      const at = s ? Math.min(Math.max(middle, s.first + 30), s.first + s.count - 30) : middle;
      show(at - 30, at + 30);
    },
  };
  root.querySelectorAll('[data-zoom]').forEach((b) => b.addEventListener('click', () => shown && actions[b.dataset.zoom]()));
  select.addEventListener('change', () => open(Number(select.value)));

  const sampleAt = (event) => {
    const place = svg.getBoundingClientRect();
    const px = (event.clientX - place.left) / place.width * box.width;
    return from + Math.min(Math.max((px - box.left) / (box.right - box.left), 0), 1) * (to - from);
  };

  // Fingers and mouse buttons that are down outlive a redrawing, so they are kept here.
  const down = new Map();
  let band = null, pinch = null;
  function listen() {
    svg.addEventListener('wheel', (event) => {
      const whole = to - from >= shown.capture.points;
      if (event.deltaY > 0 && whole) return; // nothing to zoom out of: the page scrolls
      event.preventDefault();
      zoom(Math.min(Math.max(1.0015 ** event.deltaY, 0.5), 2), sampleAt(event));
    }, { passive: false });
    svg.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.shiftKey && (event.key === 'ArrowLeft' || event.key === 'ArrowRight')) {
        cursor = Math.round(cursor === null ? (from + to) / 2 : cursor + (event.key === 'ArrowLeft' ? -1 : 1));
        cursor = Math.min(Math.max(cursor, 0), shown.capture.points - 1);
        if (cursor < from || cursor > to) show(cursor - (to - from) / 2, cursor + (to - from) / 2); else drawCursor();
      } else {
        const act = { '+': 'in', '=': 'in', '-': 'out', ArrowLeft: 'left', ArrowRight: 'right', 0: 'all', Home: 'all' }[event.key];
        if (!act) return;
        actions[act]();
      }
      event.preventDefault();
    });
    svg.addEventListener('pointerdown', (event) => {
      down.set(event.pointerId, event.clientX);
      const finger = event.pointerType === 'touch';
      if (finger && down.size === 2) { pinch = { wide: spread(), from, to }; band = null; return; }
      band = { at: sampleAt(event), x: event.clientX, moves: finger || event.shiftKey, from, to };
      if (!finger) svg.focus({ preventScroll: true });
    });
    svg.addEventListener('pointerleave', () => { if (!down.size) { cursor = null; drawCursor(); } });
    svg.addEventListener('pointermove', (event) => {
      if (!down.size) { cursor = Math.round(sampleAt(event)); drawCursor(); }
    });
  }
  const spread = () => { const xs = [...down.values()]; return Math.max(Math.abs(xs[0] - xs[1]), 10); };
  window.addEventListener('pointermove', (event) => {
    if (!down.has(event.pointerId) || !shown) return;
    down.set(event.pointerId, event.clientX);
    if (pinch && down.size === 2) {
      const factor = pinch.wide / spread(), middle = (pinch.from + pinch.to) / 2, half = (pinch.to - pinch.from) / 2 * factor;
      show(middle - half, middle + half);
    } else if (band && band.moves) {
      const share = (event.clientX - band.x) / drawing.clientWidth * (band.to - band.from);
      show(band.from - share, band.to - share);
    } else if (band) {
      const a = box.left + (band.at - from) / (to - from) * (box.right - box.left);
      const b = box.left + (sampleAt(event) - from) / (to - from) * (box.right - box.left);
      const mark = svg.querySelector('.band') || make(svg, 'rect', { class: 'band', y: 4, height: box.height - 44 });
      mark.setAttribute('x', Math.min(a, b));
      mark.setAttribute('width', Math.abs(b - a));
    }
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (band && !band.moves && event.type === 'pointerup') {
      const end = sampleAt(event);
      svg.querySelector('.band')?.remove();
      if (Math.abs(event.clientX - band.x) > 4) show(Math.min(band.at, end), Math.max(band.at, end));
      else { cursor = Math.round(end); drawCursor(); }
    }
    band = null;
    if (down.size < 2) pinch = null;
  };
  window.addEventListener('pointerup', up);
  window.addEventListener('pointercancel', up);

  listeners.push(list);
  select.value = '';
  list();
  select.value = String(data.default);
  if (select.value === String(data.default)) open(data.default);
  return draw;
}
