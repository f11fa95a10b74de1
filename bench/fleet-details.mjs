// What an instance of a simulated fleet (fleet.mjs) counts for the dashboard alone.

const FAST = ['0.0005', '0.001', '0.0025', '0.005', '0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '2.5', '+Inf']
const DRAIN = ['0.1', '0.25', '0.5', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '+Inf']
const AGES = ['1', '5', '10', '30', '60', '120', '300', '600', '1200', '1800', '2700', '3300', '3600', '+Inf']
/** Bytes of a frame; base of a process, and what a connection takes. */
const FRAME = 180
const BASE = 110e6
const CONNECTION = 45e3
/** Share of the connections that are no WebSocket. */
const STREAMS = 0.05

export class Details {
  #random
  #counts = { received: 0, sent: 0, recovered: 0, unrecovered: 0, failed: 0, skipped: 0 }
  #publish = new Histogram(FAST)
  #connect = new Histogram(FAST)
  #subscribe = new Histogram(FAST)
  #ages = new Histogram(AGES)
  #drains = new Histogram(DRAIN)
  #delay = 0.02

  constructor (random) {
    this.#random = random
  }

  opened (count) {
    this.#counts.recovered += Math.floor(count * 0.6)
    this.#connect.add(4, count)
    this.#subscribe.add(3, count * 2)
  }

  closed (cause, count) {
    this.#ages.add(cause === 'deadline' ? 11 : 6 + Math.floor(this.#random() * 5), count)
  }

  live (seconds, { open, delivered, isDown, isDrained }) {
    this.#counts.received += Math.floor(open * seconds / 60)
    if (isDown) this.#counts.failed += Math.floor(seconds * 2)
    else {
      this.#counts.sent += Math.floor(delivered * seconds * open / 100)
      this.#publish.add(2 + Math.floor(this.#random() * 2.2), seconds * 2)
    }
    if (isDrained && this.#drains.count === 0) this.#drains.add(4, 1)
    this.#delay = 0.012 + 0.01 * this.#random() + open / 1e5
  }

  /** Of these connections, those by HTTP streaming. */
  streams (open) {
    return Math.round(open * STREAMS)
  }

  values (open) {
    const { received, sent, recovered, unrecovered, failed, skipped } = this.#counts
    return {
      'websocket.server.connection.active {"websocket.protocol":"http_stream_json"}': this.streams(open),
      'websocket.server.subscription.active {}': open * 2,
      'websocket.server.messages {"network.io.direction":"receive"}': received,
      'websocket.server.messages {"network.io.direction":"transmit"}': sent,
      'websocket.server.io {"network.io.direction":"receive"}': received * FRAME,
      'websocket.server.io {"network.io.direction":"transmit"}': sent * FRAME,
      'websocket.server.recoveries {"websocket.recovery.outcome":"recovered"}': recovered,
      'websocket.server.recoveries {"websocket.recovery.outcome":"unrecovered"}': unrecovered,
      'websocket.server.publications.skipped {}': skipped,
      'websocket.bridge.publish.duration_count {"error.type":"FST_CRWS_REDIS_UNAVAILABLE"}': failed,
      ...this.#publish.values('websocket.bridge.publish.duration', {}),
      ...this.#connect.values('websocket.server.command.duration', { 'websocket.command': 'connect' }),
      ...this.#subscribe.values('websocket.server.command.duration', { 'websocket.command': 'subscribe' }),
      ...this.#ages.values('websocket.server.connection.duration', {}),
      ...this.#drains.values('websocket.drain.duration', {}),
      'nodejs.eventloop.delay.p99 {}': this.#delay,
      'process.memory.usage {}': BASE + open * CONNECTION
    }
  }
}

class Histogram {
  #bounds
  #counts
  count = 0

  constructor (bounds) {
    this.#bounds = bounds
    this.#counts = bounds.map(() => 0)
  }

  add (bucket, count) {
    this.#counts[bucket] += count
    this.count += count
  }

  values (name, attributes) {
    let below = 0
    const values = { [`${name}_count ${JSON.stringify(attributes)}`]: this.count }
    this.#bounds.forEach((le, i) => {
      below += this.#counts[i]
      values[`${name}_bucket ${JSON.stringify({ ...attributes, le })}`] = below
    })
    return values
  }
}
