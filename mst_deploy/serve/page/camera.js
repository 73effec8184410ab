// The camera: its pictures go to the service as JPEG, the newest is stylized and comes back.
const LONGEST = 640; // pixels
const INTERVAL = 1000 / 25; // milliseconds between pictures that are sent
const HEAD = 8; // bytes: the time at which a picture was taken, as a double

export class Camera {
  constructor(canvas, onFacts, onError, token) {
    Object.assign(this, { canvas, onFacts, onError, token, closed: false, busy: false, delays: [], shown: 0 });
    this.video = document.createElement("video");
    this.video.muted = this.video.playsInline = true;
    this.still = document.createElement("canvas");
  }

  async open() {
    if (!navigator.mediaDevices) throw new Error("browsers give the camera only to pages of this machine and of https");
    this.stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
    this.video.srcObject = this.stream;
    await this.video.play();
    const scale = Math.min(1, LONGEST / Math.max(this.video.videoWidth, this.video.videoHeight));
    this.still.width = Math.round(this.video.videoWidth * scale);
    this.still.height = Math.round(this.video.videoHeight * scale);
    return this.picture();
  }

  picture() {
    this.still.getContext("2d").drawImage(this.video, 0, 0, this.still.width, this.still.height);
    return new Promise((done) => this.still.toBlob(done, "image/jpeg", 0.85));
  }

  start(settings) {
    const names = ["mst"];
    if (this.token) names.push(`bearer.${btoa(this.token).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")}`);
    this.socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/camera`, names);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => { this.change(settings); this.timer = setInterval(() => this.send(), INTERVAL); };
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.report(JSON.parse(data)) : this.show(data));
    this.socket.onclose = ({ reason }) => {
      if (!this.closed) this.onError(new Error(reason || "the connection to the service has ended"));
      this.close();
    };
  }

  change(settings) {
    this.settings = settings;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(settings));
  }

  async send() { // a picture is passed over while the last one is still on its way
    if (this.busy || this.socket.bufferedAmount || this.socket.readyState !== WebSocket.OPEN) return;
    this.busy = true;
    try {
      const head = new ArrayBuffer(HEAD);
      new DataView(head).setFloat64(0, performance.now(), true);
      const picture = await this.picture();
      if (picture && this.socket.readyState === WebSocket.OPEN) this.socket.send(new Blob([head, picture]));
    } finally { this.busy = false; }
  }

  async show(message) {
    const taken = new DataView(message).getFloat64(0, true);
    const bitmap = await createImageBitmap(new Blob([message.slice(HEAD)], { type: "image/jpeg" }));
    if (this.closed) return;
    if (this.canvas.width !== bitmap.width) { this.canvas.width = bitmap.width; this.canvas.height = bitmap.height; }
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    this.shown += 1;
    this.delays.push(performance.now() - taken);
    if (this.delays.length > 200) this.delays.shift();
    this.canvas.dataset.shown = this.shown;
  }

  report({ fps, width, height }) {
    const sorted = [...this.delays].sort((a, b) => a - b);
    if (!sorted.length) return;
    const at = (share) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
    this.canvas.dataset.delay = `${at(0.5)} ${at(0.95)}`;
    this.onFacts(`${fps.toFixed(1)} pictures a second, stylized at ${width}x${height}, delay ${at(0.5)} ms`);
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.socket?.close();
    this.stream?.getTracks().forEach((track) => track.stop());
  }
}
