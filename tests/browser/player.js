// A media element, and what can be seen and heard of it. Times are in seconds of the medium.
//
// Nothing here waits for a time to pass: one waits for the element's events, and at most `patience` milliseconds.
globalThis.Player = class {
  constructor(element, patience) {
    this.element = element;
    this.patience = patience;
  }

  static make(kind, url, crossOrigin) {
    const element = document.createElement(kind);
    Object.assign(element, { controls: true, preload: "auto", crossOrigin, src: url });
    document.body.append(element);
    return element;
  }

  // When there is so much (HAVE_CURRENT_DATA: something to show, or to be heard).
  async load(enough) {
    this.element.preload = "auto";
    const isEnough = () => this.element.readyState >= enough;
    if (!isEnough()) await this.until(["loadeddata", "canplay", "canplaythrough"], isEnough);
  }

  // When one of the events has come, and this is so.
  until(names, isSo) {
    return new Promise((resolve, reject) => {
      const waiting = new AbortController();
      const end = (settle, value) => {
        waiting.abort();
        clearTimeout(timer);
        settle(value);
      };
      const fail = (why) => end(reject, new Error(`${why} before ${names}: ${JSON.stringify(this.state())}`));
      const timer = setTimeout(() => fail("nothing more came"), this.patience);
      const { signal } = waiting;
      this.element.addEventListener("error", () => fail(this.element.error.message), { signal });
      for (const name of names)
        this.element.addEventListener(name, () => isSo() && end(resolve, this.state()), { signal });
    });
  }

  // How it is; some of it is only for whoever reads why a wait failed.
  state() {
    const { currentTime, duration, paused, ended, seeking, readyState, networkState, seekable, buffered } = this.element;
    const seekableTo = seekable.length ? seekable.end(seekable.length - 1) : 0;
    const bufferedTo = buffered.length ? buffered.end(buffered.length - 1) : 0;
    return { currentTime, duration, seekableTo, bufferedTo, paused, ended, seeking, readyState, networkState };
  }

  isBuffered(time) {
    const { buffered } = this.element;
    return Array.from(buffered, (_, i) => buffered.start(i) <= time && time <= buffered.end(i)).some(Boolean);
  }

  // One after the other, each as soon as the one before has begun. The last one counts.
  async seek(...times) {
    const last = times.pop();
    for (const time of times) {
      const begun = this.until(["seeking"], () => true);
      this.element.currentTime = time;
      await begun;
    }
    const wasBuffered = this.isBuffered(last);
    const sought = this.until(["seeked"], () => !this.element.seeking);
    this.element.currentTime = last;
    return { ...(await sought), wasBuffered };
  }

  async play(rate) {
    this.element.playbackRate = rate;
    await this.element.play();
  }

  playPast(time) {
    const isPast = () => this.element.currentTime > time || this.element.ended;
    return isPast() ? this.state() : this.until(["timeupdate", "ended"], isPast);
  }

  playToEnd() {
    const isEnded = () => this.element.ended;
    return isEnded() ? this.state() : this.until(["ended"], isEnded);
  }

  // How bright each of the blocks is that lie side by side in the frame that is shown: 0 to 255.
  brightnesses(count) {
    const canvas = document.createElement("canvas");
    const [width, height] = [this.element.videoWidth, this.element.videoHeight];
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(this.element, 0, 0);
    const side = Math.floor(Math.min(width / count, height) / 2);
    const brightness = (block) => {
      const left = Math.floor((width / count) * (block + 0.5) - side / 2);
      const { data } = context.getImageData(left, Math.floor((height - side) / 2), side, side);
      return data.filter((_, i) => i % 4 === 0).reduce((sum, value) => sum + value, 0) / (side * side);
    };
    return Array.from({ length: count }, (_, block) => brightness(block));
  }

  // The loudest frequency, and when it was heard: not so near a second's ends that it could be the next one's.
  async pitch() {
    const context = new AudioContext({ sampleRate: 8000 });
    const analyser = new AnalyserNode(context, { fftSize: 2048, smoothingTimeConstant: 0 });
    context.createMediaElementSource(this.element).connect(analyser).connect(context.destination);
    const decibels = new Float32Array(analyser.frequencyBinCount);
    const deadline = performance.now() + this.patience;
    await this.play(1);
    while (performance.now() < deadline) {
      await new Promise(requestAnimationFrame);
      const { currentTime } = this.element;
      const fraction = currentTime % 1;
      analyser.getFloatFrequencyData(decibels);
      const loudest = decibels.indexOf(Math.max(...decibels));
      if (fraction > 0.5 && fraction < 0.95 && decibels[loudest] > -60) {
        await context.close();
        return { currentTime, hertz: (loudest * context.sampleRate) / analyser.fftSize };
      }
    }
    throw new Error(`nothing is heard: ${JSON.stringify(this.state())}`);
  }
};
