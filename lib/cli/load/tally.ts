import { Counts } from './counts.ts'
import { Latency } from './latency.ts'
import type { Arrival } from './receiver.ts'

/** What happened in a run so far. */
export class Tally {
  /** Clients that are connected now. */
  open = 0
  /** Clients that were connected at least once. */
  opened = 0
  /** Clients that do not come back: the server refused them, or told them not to. */
  gone = 0
  connects = 0
  reconnects = 0
  /** Upgrades that got another HTTP status than 101. */
  readonly refused = new Counts()
  /** Connects that broke or got no answer in time, and `connect` commands that got an error. */
  readonly failed = new Counts()
  /** Connections that ended before the run did, by code and reason; with them clients that were closed at once. */
  readonly closed = new Counts()
  readonly connectTime = new Latency()
  /** From the end of a connection until the client is connected again. */
  readonly awayTime = new Latency()

  readonly subscribeErrors = new Counts()
  readonly unsubscribed = new Counts()
  recovered = 0
  unrecovered = 0

  sent = 0
  acknowledged = 0
  /** Were due, but every client that could send them was away, or its server did not read. */
  unsent = 0
  /** The connection closed before the answer came. */
  unanswered = 0
  readonly publishErrors = new Counts()

  received = 0
  duplicated = 0
  outOfOrder = 0
  /** Offsets that did not follow the one before. */
  wrongOffsets = 0
  /** What others sent: publications of another origin in a channel of this run, and messages of other plain clients. */
  foreign = 0
  readonly latency = new Latency()
  /** Of this second only. */
  readonly latencyNow = new Latency()
  /** Of publications that were recovered after a reconnect: time away included. */
  readonly recoveredLatency = new Latency()

  bytesSent = 0
  bytesReceived = 0

  arrived (arrival: Arrival): void {
    if (arrival === 'again') this.duplicated++
    else this.received++
    if (arrival === 'disordered') this.outOfOrder++
  }

  took (ms: number, recovered: boolean): void {
    if (recovered) return this.recoveredLatency.record(ms)
    this.latency.record(ms)
    this.latencyNow.record(ms)
  }
}
