// Previews: the videos of a clip follow the clock of the first one, which has the driving sound.
(() => {
  const FRAME = 1 / 25;  // seconds
  // Followers wait so far ahead until the sound, which stutters at first, is so far: seconds.
  const HEAD_START = 0.9 * FRAME, STARTED = 1.25 * FRAME;
  // Drift: averaged over so long, since browsers report some times by the frame; undone in so long by another speed, at
  // most so much another; and beyond so much by a seek, which takes longer than most drifts are.
  const AVERAGED = 0.15, UNDONE = 0.25, MOST = 0.5, FAR = 0.3;

  // Until the video shows what it was told to, or cannot.
  async function settled(video) {
    while (!video.error && (video.seeking || video.readyState < video.HAVE_CURRENT_DATA)) {
      const event = video.seeking ? "seeked" : "loadeddata";
      await new Promise(done => {
        for (const name of [event, "error"]) video.addEventListener(name, done, {once: true});
      });
    }
  }

  // Refused where the video is paused again before it starts, or cannot be played.
  const start = video => video.play().catch(() => {});

  // The middle of its last frame.
  const last = video => (video.duration || Infinity) - FRAME / 2;

  class Player {
    constructor(root) {
      this.root = root;
      this.frames = Number(root.dataset.frames);
      this.playing = false;
      this.drifts = new Map();
      this.aligned = 0;
      this.videos = [...root.querySelectorAll("video")];
      [this.master, ...this.followers] = this.videos;
      [this.button, this.slider, this.output] = root.querySelectorAll("button, input, output");
      this.listen();
      this.show(0);
    }

    listen() {
      this.button.addEventListener("click", () => this.toggle());
      this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
      this.root.addEventListener("keydown", event => this.key(event));
      for (const video of this.videos) {
        video.addEventListener("click", () => this.toggle());
        video.addEventListener("error", () => this.drop(video));
      }
      for (const strip of this.root.querySelectorAll(".strip")) {
        const scrub = event => event.buttons && this.seek(this.frames * event.offsetX / strip.clientWidth);
        strip.addEventListener("pointerdown", scrub);
        strip.addEventListener("pointermove", scrub);
      }
      this.master.addEventListener("ended", () => this.pause());
      // In a hidden tab the screen is not refreshed; this event comes all the same.
      this.master.addEventListener("timeupdate", () => !this.master.paused && this.align());
    }

    load() {
      for (const video of this.videos) if (!video.src) video.src = video.dataset.src;
    }

    unload() {
      this.pause();
      for (const video of this.videos) {
        video.removeAttribute("src");
        video.load();
      }
      this.show(0);
    }

    drop(video) {
      if (!video.hasAttribute("src")) return;
      this.followers = this.followers.filter(each => each !== video);
      const reason = document.createElement("p");
      reason.className = "missing";
      reason.textContent = "This browser does not play the video.";
      video.replaceWith(reason);
    }

    get frame() {
      return Math.min(this.frames - 1, Math.floor(this.master.currentTime / FRAME + 0.01));
    }

    toggle() {
      if (this.playing) this.step(0);
      else this.play();
    }

    async play() {
      this.playing = true;
      this.label();
      if (this.master.ended || this.frame >= this.frames - 1) this.seek(0);
      const from = this.master.currentTime;
      for (const video of this.followers) video.currentTime = Math.min(from + HEAD_START, last(video));
      await Promise.all(this.videos.map(settled));
      if (!this.playing) return;
      await start(this.master);
      this.release(from + STARTED);
      if (this.master.requestVideoFrameCallback) this.watch();
    }

    // Start the followers once the master's clock is at `time`.
    release(time) {
      if (this.master.paused) return;
      if (this.master.currentTime < time) return requestAnimationFrame(() => this.release(time));
      for (const video of this.followers) start(video);
      this.drifts.clear();
      this.follow();
    }

    pause() {
      this.playing = false;
      for (const video of this.videos) video.pause();
      for (const video of this.followers) video.playbackRate = 1;
      this.label();
    }

    // To the middle of a frame, so that no rounding shows its neighbour.
    seek(frame) {
      const at = Math.max(0, Math.min(this.frames - 1, Math.floor(frame)));
      for (const video of this.videos) {
        video.currentTime = Math.min((at + 0.5) * FRAME, last(video));
        if (!this.master.paused) start(video);
      }
      this.show(at);
    }

    step(frames) {
      this.pause();
      this.seek(this.frame + frames);
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const act = {" ": () => this.toggle(), ArrowLeft: () => this.step(-1), ArrowRight: () => this.step(1)}[event.key];
      if (!act || (event.key === " " && event.target === this.button)) return;
      event.preventDefault();
      act();
    }

    // The frame that is seen, where the browser tells.
    watch() {
      this.master.requestVideoFrameCallback((now, {mediaTime}) => {
        this.show(Math.round(mediaTime / FRAME));
        if (!this.master.paused) this.watch();
      });
    }

    // At every refresh of the screen, while the master plays.
    follow() {
      if (this.master.paused) return this.playing && this.pause();  // by the keyboard's media keys, or at the end
      this.align();
      if (!this.master.requestVideoFrameCallback) this.show(this.frame);
      requestAnimationFrame(() => this.follow());
    }

    align() {
      const now = performance.now() / 1000;
      const weight = Math.min(1, (now - this.aligned) / AVERAGED);
      this.aligned = now;
      for (const video of this.followers) this.correct(video, this.master.currentTime, weight);
    }

    // A video that ends before the master stays at its end.
    correct(video, target, weight) {
      if (this.master.seeking || video.seeking || target >= video.duration) return;
      const ahead = video.currentTime - target;
      const far = Math.abs(ahead) > FAR;
      const before = this.drifts.get(video) ?? ahead;
      const drift = far ? 0 : before + weight * (ahead - before);
      this.drifts.set(video, drift);
      if (far) video.currentTime = target;
      const change = Math.max(-MOST, Math.min(MOST, drift / UNDONE));
      video.playbackRate = 1 - Math.round(20 * change) / 20;  // in steps, since each change costs a browser something
    }

    show(frame) {
      const at = (frame + 0.5) / this.frames;
      this.root.style.setProperty("--at", at);
      this.slider.value = frame;
      this.output.textContent = `${(frame * FRAME).toFixed(2)} s, frame ${frame + 1} of ${this.frames}`;
      this.slider.setAttribute("aria-valuetext", this.output.textContent);
    }

    label() {
      this.button.textContent = this.playing ? "Pause" : "Play";
    }
  }

  for (const preview of document.querySelectorAll(".preview")) {
    const root = preview.querySelector(".player");
    if (!root) continue;
    const player = new Player(root);
    preview.addEventListener("toggle", () => preview.open ? player.load() : player.unload());
    if (preview.open) player.load();
  }

  // Another metric: its worst clip first, its numbers below the videos.
  const list = document.getElementById("preview-list"), by = document.getElementById("preview-by");
  function reorder() {
    const metric = by.value, title = by.selectedOptions[0].textContent.split("\u00a0")[0];
    const place = preview => JSON.parse(preview.dataset.places)[metric];
    const all = [...list.children].map(preview => ({preview, at: place(preview)}));
    all.sort((a, b) => (a.at?.index ?? Infinity) - (b.at?.index ?? Infinity));
    for (const {preview, at} of all) {
      list.append(preview);
      preview.open = false;
      preview.querySelector("summary small").textContent = at ? `${at.label}: ${title} ${at.level}` : `no ${title}`;
      preview.querySelectorAll("figure .value").forEach((each, i) => each.textContent = at?.values[i] ?? "");
    }
    all[0].preview.open = true;
  }
  if (by) {
    by.addEventListener("change", reorder);
    document.getElementById("preview-tools").hidden = false;
  }

  // A link to a preview opens it and gives it the keyboard.
  function jump(hash) {
    const preview = document.querySelector(`${hash}.preview`);
    if (!preview) return;
    preview.open = true;
    preview.scrollIntoView();
    (preview.querySelector(".player") ?? preview.querySelector("summary")).focus({preventScroll: true});
  }
  document.addEventListener("click", event => {
    const link = event.target.closest("a[href^='#preview-']");
    if (link) setTimeout(jump, 0, link.hash);
  });
  if (location.hash.startsWith("#preview-")) jump(location.hash);
})();
