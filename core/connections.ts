/** A bound on the connections of a listener. What comes past it is closed at once, before a byte of it is read, and counted. */

/** A server of node:net, or of what is built on it. */
interface Listener {
  maxConnections: number;
  on(event: 'connection', listener: (socket: { once(event: 'close', listener: () => void): unknown }) => void): unknown;
  on(event: 'drop', listener: () => void): unknown;
}

export class Connections {
  readonly maxCount: number;
  count = 0;
  /** Since the process started. */
  refusedCount = 0;

  constructor(maxCount: number) {
    this.maxCount = maxCount;
  }

  /** Before it listens, or before anybody knows where. */
  bound(listener: Listener): void {
    listener.maxConnections = this.maxCount;
    listener.on('drop', () => {
      this.refusedCount++;
    });
    listener.on('connection', (socket) => {
      this.count++;
      socket.once('close', () => {
        this.count--;
      });
    });
  }
}
