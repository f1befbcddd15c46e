(() => {
  // The same marks as ntklib/_draw.py, which drew the still picture: a path is a list of numbers.
  const SIDE = 10000;
  const clamp = (v) => Math.min(Math.max(v, -3 * SIDE), 4 * SIDE);

  function scale({limits, log}, flip) {
    const f = log ? Math.log10 : (v) => v;
    const [a, b] = limits.map(f);
    return (v) => {
      if (v === null) return null;
      const part = (f(v) - a) / (b - a);
      return Math.round(clamp(SIDE * (flip ? 1 - part : part)));
    };
  }

  function walk(x, y) {
    let path = "", pen = "M";
    x.forEach((at, i) => {
      if (at === null || y[i] === null) pen = "M";
      else { path += `${pen}${at} ${y[i]}`; pen = "L"; }
    });
    return path;
  }

  const each = (x, y, make) =>
    x.map((at, i) => at === null || y[i] === null ? "" : make(at, y[i], i)).join("");
  const dots = (x, y) => each(x, y, (a, b) => `M${a} ${b}h0`);

  const paths = {
    line: ({x, y}) => [walk(x, y)],
    points: ({x, y}) => [dots(x, y)],
    stems: ({x, y, base}) => [each(x, y, (a, b) => `M${a} ${base}V${b}`), dots(x, y)],
    bars: ({left, right, y, base}) =>
      [each(left, y, (a, b, i) => `M${a} ${base}V${b}H${right[i]}V${base}z`)],
    band: ({x, low, high}) =>
      [`${walk(x, low)}${walk([...x].reverse(), [...high].reverse()).replace("M", "L")}z`],
  };

  function image({limits, rows, columns, levels}, values) {
    const found = Array(levels).fill("");
    const [a, b] = limits;
    const edge = (i, n) => Math.round(SIDE * i / n);
    values.forEach((v, k) => {
      const i = Math.floor(k / columns), j = k % columns;
      const level = Math.min(Math.max(Math.floor(levels * (v - a) / (b - a)), 0), levels - 1);
      const left = edge(j, columns), top = edge(i, rows);
      found[level] += `M${left} ${top}H${edge(j + 1, columns)}V${edge(i + 1, rows)}H${left}z`;
    });
    return found;
  }

  function start(root) {
    root.dataset.live = "";
    const data = JSON.parse(root.querySelector(".moving-data").textContent);
    const sliders = [...root.querySelectorAll("input")];
    const shown = [...root.querySelectorAll(".moving-at")];
    const [play, note, heard] = ["button", ".moving-note", ".moving-heard"]
      .map((which) => root.querySelector(which));
    const marks = [...root.querySelectorAll(".moving-plot")].flatMap((plot, p) => {
      const {x, y, marks} = data.panels[p], across = scale(x), up = scale(y, true);
      const base = up(y.log ? y.limits[0] : 0);
      const ways = {x: across, left: across, right: across, y: up, low: up, high: up};
      return [...plot.querySelectorAll("[data-mark]")].map((group, k) => ({
        ...marks[k], group, ways, base,
      }));
    });
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let timer = null;

    const frame = () => sliders.map((slider) => Number(slider.value));
    const place = (frames) => {
      const now = frame();
      return frames.reduce((k, n, i) => k * n + (n > 1 ? now[i] : 0), 0);
    };
    const moves = ({arrays}) =>
      Object.values(arrays).some(({frames}) => frames.some((n) => n > 1));

    function draw() {
      for (const mark of marks.filter(moves)) {
        const {group, kind, ways, base, arrays} = mark;
        const now = Object.fromEntries(Object.entries(arrays).map(([name, {frames, values}]) =>
          [name, values[place(frames)].map(ways[name] ?? ((v) => v))]));
        const drawn = kind === "image" ? image(mark, now.values) : paths[kind]({...now, base});
        drawn.forEach((d, i) => group.children[i].setAttribute("d", d));
      }
      sliders.forEach((slider, i) => {
        shown[i].textContent = data.sliders[i].labels[slider.value];
        slider.setAttribute("aria-valuetext", shown[i].textContent);
      });
      if (note) note.textContent = data.notes[place(data.sliders.map(({labels}) => labels.length))];
    }

    function stop() {
      if (timer === null) return;
      clearInterval(timer);
      timer = null;
      root.removeAttribute("data-playing");
      play.setAttribute("aria-label", "Play");
      play.querySelector("path").setAttribute("d", play.dataset.play);
      // While it plays nothing is said; where it stopped is.
      heard.textContent = [...shown, note].map((one) => one?.textContent ?? "").join(" ");
    }

    function toggle() {
      if (timer !== null) return stop();
      const [time] = sliders, last = Number(time.max);
      if (Number(time.value) === last) time.value = 0;
      root.dataset.playing = "";
      play.setAttribute("aria-label", "Pause");
      play.querySelector("path").setAttribute("d", play.dataset.pause);
      draw();
      timer = setInterval(() => {
        if (!root.isConnected || Number(time.value) === last) return stop();
        time.value = Number(time.value) + 1;
        draw();
      }, Math.max(1000 * data.seconds / last, 30));
    }

    function calm() {
      play.hidden = still.matches;
      if (still.matches) stop();
    }

    // A browser may have kept the sliders of the last visit.
    sliders.forEach((slider, i) => {
      slider.value = data.first[i];
      slider.addEventListener("input", () => {
        stop();
        draw();
        heard.textContent = note?.textContent ?? "";
      });
    });
    play.addEventListener("click", toggle);
    still.addEventListener("change", calm);
    calm();
    root.querySelectorAll(".moving-controls [hidden]:not(button)").forEach((e) => { e.hidden = false; });
  }

  document.querySelectorAll(".moving:not([data-live])").forEach(start);
})();
