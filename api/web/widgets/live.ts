// One live connection per server for all widgets of a page. Where it can't be had, the widgets are asked to look for
// themselves now and then.

const POLL = 15_000;
const SLOWEST = 60_000;
const SOON = 3000; // after the connection broke: a server that only restarts is back by then
const UNSEEN = 30_000; // a page that nobody looks at for so long lets go of its connection

type Listener = () => void;

/** Visitors who save data keep no connection open: their widgets look once a minute. */
const thrifty = () => matchMedia("(prefers-reduced-data:reduce)").matches || (navigator as { connection?: { saveData?: boolean } }).connection?.saveData;

class Hub {
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly versions = new Map<string, number>();
  private source?: EventSource;
  private open = "";
  private failures = 0;
  private timer = 0;
  private poll = 0;
  private soon = 0;
  private away = 0;

  constructor(private readonly base: string) {
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.away);
      if (document.hidden) this.away = setTimeout(() => this.close(), UNSEEN) as unknown as number;
      else this.connect();
    });
    addEventListener("online", () => this.again());
    // A page that the browser keeps for the way back would keep one of its few connections to the server, too.
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", () => this.connect());
  }

  listen(metric: string, listener: Listener): () => void {
    let set = this.listeners.get(metric);
    if (!set) this.listeners.set(metric, (set = new Set()));
    set.add(listener);
    this.later(50);
    return () => {
      set!.delete(listener);
      if (set!.size === 0) this.listeners.delete(metric);
      this.later(500);
    };
  }

  private later(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), ms) as unknown as number;
  }

  private again(): void {
    this.failures = 0;
    this.close();
    this.connect();
  }

  private close(): void {
    this.source?.close();
    this.source = undefined;
    this.open = "";
  }

  private tell(metric: string): void {
    for (const l of [...(this.listeners.get(metric) ?? [])]) l();
  }

  /** Asks everybody to look from time to time while there is no connection. */
  private fallBack(on: boolean): void {
    clearInterval(this.poll);
    clearTimeout(this.soon);
    this.poll = 0;
    if (!on) return;
    const all = () => { if (!document.hidden) for (const m of [...this.listeners.keys()]) this.tell(m); };
    this.poll = setInterval(all, POLL) as unknown as number;
    this.soon = setTimeout(all, SOON) as unknown as number;
  }

  private connect(): void {
    const wanted = [...this.listeners.keys()].sort().slice(0, 64).join(",");
    if (document.hidden || wanted === this.open || thrifty()) return;
    this.close();
    if (!wanted) return this.fallBack(false);
    this.open = wanted;
    const source = (this.source = new EventSource(this.base + "api/v1/stream?metrics=" + encodeURIComponent(wanted)));
    source.onopen = () => {
      this.failures = 0;
      this.fallBack(false);
    };
    source.addEventListener("version", (e) => {
      const { metric, version } = JSON.parse((e as MessageEvent).data);
      const old = this.versions.get(metric);
      this.versions.set(metric, version);
      if (old !== version) this.tell(metric);
    });
    source.onerror = () => {
      if (!this.poll) this.fallBack(true);
      if (source.readyState !== EventSource.CLOSED || source !== this.source) return; // the browser tries by itself
      this.close();
      this.later(Math.min(SLOWEST, 1000 * 2 ** this.failures++) * (0.5 + Math.random()));
    };
  }
}

const hubs = new Map<string, Hub>();

/** Calls listener when a metric of a server has a new version. Returns how to end that. */
export function listen(base: string, metric: string, listener: Listener): () => void {
  let hub = hubs.get(base);
  if (!hub) hubs.set(base, (hub = new Hub(base)));
  return hub.listen(metric, listener);
}
