// One instance of a simulated fleet (fleet.mjs): its counters as the plugin has them, from the start at 0.
import { Details } from './fleet-details.mjs'

export const LIMIT = 950
export const CAUSES = ['client', 'server', 'deadline', 'drain', 'heartbeat', 'slow', 'policy', 'error', 'abnormal']
export const REJECTIONS = ['capacity', 'origin', 'auth', 'auth_failed', 'rate_limit', 'draining']
const BOUNDS = ['0.0005', '0.001', '0.0025', '0.005', '0.01', '0.025', '0.05', '0.1', '0.25', '0.5', '1', '2.5', '+Inf']
/** Of the deliveries, how many go into which bucket when all is well, and when not. */
const PROMPT = [[2, 0.2], [3, 0.4], [4, 0.3], [5, 0.09], [8, 0.01]]
const LATE = 11
/** ms between two exports, and that a drain takes. */
const INTERVAL = 60_000
const DRAIN = 5_000
const LONGEST = 57 * 60_000
/** Per second: connections that reach their deadline; and whose clients go, of which some break. */
const DEADLINES = 1 / (54 * 60)
const LEAVING = 1 / (40 * 60)
const BREAKING = 0.12
/** Name and attributes of each series. */
const KEYS = [
  'websocket.server.connection.active {"websocket.protocol":"json"}',
  'websocket.server.connection.limit {}',
  'websocket.server.connection.opened {"websocket.protocol":"json"}',
  ...CAUSES.map(cause => `websocket.server.connection.closed {"websocket.close.cause":"${cause}"}`),
  ...REJECTIONS.map(type => `websocket.server.connection.rejected {"error.type":"${type}"}`),
  'websocket.server.publications.missed {}',
  'websocket.bridge.up {}',
  'websocket.bridge.downtime {}',
  ...BOUNDS.map(le => `websocket.bridge.delivery.lag_bucket {"le":"${le}"}`),
  'websocket.bridge.delivery.lag_count {}'
]

export class Instance {
  revision
  open = 0
  retiredAt
  drainsAt
  endsAt
  emptySince
  #random
  #reports
  #id
  #readyAt
  #nextPush
  #skew
  #outages = []
  #opened = 0
  #closed = Object.fromEntries(CAUSES.map(cause => [cause, 0]))
  #rejected = Object.fromEntries(REJECTIONS.map(type => [type, 0]))
  #missed = 0
  #lags = BOUNDS.map(() => 0)
  #series
  #details

  constructor ({ id, revision, bornAt, random, reports }) {
    this.revision = revision
    this.#id = id
    this.#random = random
    this.#reports = reports
    this.#readyAt = bornAt + 8_000 + random() * 15_000
    // The SDK starts a second after the app listens, and exports for the first time an interval later.
    this.#nextPush = bornAt + 3_000 + INTERVAL + random() * 2_000
    while (this.#nextPush < 0) this.#nextPush += INTERVAL
    this.#skew = (random() - 0.5) * 4_000
    if (reports.detailed) this.#details = new Details(random)
    this.#series = reports.instance(id, [...KEYS, ...Object.keys(this.#details?.values(0) ?? {})])
  }

  get room () {
    return LIMIT - this.open
  }

  get id () {
    return this.#id
  }

  isStarting (now) {
    return now < this.#readyAt
  }

  accepts (now, revision) {
    return this.revision === revision && now >= this.#readyAt && !(this.drainsAt <= now) && this.room > 0
  }

  accept (count) {
    this.#opened += count
    this.#details?.opened(count)
    this.open += count
    return count
  }

  refuse (type, count) {
    this.#rejected[type] += count
  }

  leave (count) {
    this.#close('client', this.#whole(count))
  }

  /** Noticed at once or within seconds, and so is that it is back. */
  loseRedis (now, duration) {
    this.#reports.log(now + 2_000, this.#id, 'ERROR', 'bridge.down', 'Redis is down: its connection was closed. Connections stay open, and publishing fails')
    this.#reports.log(now + duration + 2_000, this.#id, 'INFO', 'bridge.up', `Redis is up  away=${duration}`)
    this.#outages.push([now + this.#random() * 5_000, now + duration + this.#random() * 3_000])
  }

  drain (at) {
    this.#reports.log(at, this.#id, 'INFO', 'drain.started', `Closing all WebSocket connections  connections=${this.open} timeout=8000`)
    this.drainsAt = at
    this.endsAt = at + DRAIN
  }

  live (now, elapsed, delivered, { lag = 0, missing = 0, breaking = 0 }) {
    const seconds = elapsed / 1_000
    // Nobody comes to an old revision, so all of its connections have ended after the longest that one can last.
    const left = (this.retiredAt + LONGEST - now) / 1_000
    this.#close('deadline', this.#whole(this.open * (this.retiredAt === undefined ? DEADLINES : 1 / Math.max(1, left)) * seconds))
    const leaving = this.#whole(this.open * LEAVING * seconds)
    const broken = this.#whole(leaving * BREAKING)
    this.#close('client', leaving - broken)
    this.#close('abnormal', broken + this.#whole(this.open * breaking * seconds / 60))
    if (this.drainsAt <= now) this.#close('drain', this.open)
    this.#details?.live(seconds, { open: this.open, delivered, isDown: this.#isDown(now), isDrained: this.drainsAt <= now })
    if (this.#isDown(now)) return
    const arriving = delivered * seconds
    const lost = this.#whole(arriving * missing)
    this.#missed += lost
    this.#deliver(arriving - lost, lag)
    if (this.#outages.some(([, end]) => end > now - elapsed && end <= now)) this.#catchUp(delivered)
  }

  /** What others had published when Redis went comes late now, and some of it is lost. */
  #catchUp (delivered) {
    this.#lags[LATE] += this.#whole(delivered * 2 * this.#random())
    this.#missed += this.#whole(delivered * 0.3 * this.#random())
  }

  #deliver (count, late) {
    for (const [bucket, share] of PROMPT) this.#lags[bucket] += this.#whole(count * (1 - late) * share)
    if (late > 0) this.#lags[LATE] += this.#whole(count * late)
  }

  #close (cause, count) {
    const some = Math.min(count, this.open)
    this.open -= some
    this.#closed[cause] += some
    this.#details?.closed(cause, some)
    this.#reports.requests('101', some)
  }

  #isDown (now) {
    return this.#outages.some(([start, end]) => start <= now && now < end)
  }

  /** At its moment, and once more when it has drained. */
  pushIfDue (now, { late = 0, silent = 0 }) {
    const isLast = this.endsAt <= now
    if (this.#nextPush > now && !isLast) return
    const at = isLast ? now : this.#nextPush
    if (!isLast) this.#nextPush += INTERVAL
    if (Number(this.#id.slice(1)) % 100 < silent * 100) return
    this.#series.push(at + this.#skew, at + 500 + this.#random() * 3_000 + this.#random() * late * 1_000, this.#values(at))
  }

  /** In the order of KEYS. */
  #values (at) {
    let count = 0
    const below = this.#lags.map(one => { count += one; return count })
    const downtime = this.#outages.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, at) - start), 0) / 1_000
    const values = [
      this.open - (this.#details?.streams(this.open) ?? 0),
      LIMIT,
      this.#opened,
      ...CAUSES.map(cause => this.#closed[cause]),
      ...REJECTIONS.map(type => this.#rejected[type]),
      this.#missed,
      this.#isDown(at) ? 0 : 1,
      downtime,
      ...below,
      count
    ]
    return this.#details === undefined ? values : [...values, ...Object.values(this.#details.values(this.open))]
  }

  #whole (value) {
    return Math.floor(value + this.#random())
  }
}
