// A service on Cloud Run for hours, simulated: what its instances count, what they push every 60 s, each at a moment of
// its own, and when Cloud Monitoring shows it. Next to that what Cloud Run, Cloud Logging and Memorystore report.
// The same seed gives the same samples.
import { Instance } from './fleet-instance.mjs'
import { Reports } from './fleet-reports.mjs'

/** ms between two looks at the world. */
const TICK = 5_000
const MINUTE = 60_000
const CONCURRENCY = 1_000
/** ms that the autoscaler waits before it takes an instance away; for which an empty one of an old revision stays. */
const SCALE_IN_AFTER = 10 * MINUTE
const IDLE = 15 * MINUTE
/** ms after which the instances of a new revision have started, and it gets the traffic. */
const STARTED = 25_000

/** Uniform in [0, 1), from a seed. */
export function randomFrom (seed) {
  let state = (seed + 1) * 0x9e3779b9
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/**
 * `demand(minute)` is how many clients want to be connected. `events` happen at a minute, or last `until` another:
 *
 * - `redis`: s for which Redis is away, for a `share` of the instances
 * - `deploy`: a new revision, beside which the old one lives until its connections have ended
 * - `restart`: every instance gets SIGTERM, within a minute
 * - `kill`: how many instances die at once, without a last push
 * - `late` (s) and `silent` (a share of the instances): what is pushed arrives later, or never
 * - `lag` (a share of the deliveries), `missing` (a share of the publications)
 * - `refused: { type, share }`: by the instances; `frontEnd: { code, share }`: by Cloud Run
 * - `breaking`: the share of the open connections that break in a minute
 * - `failing`: entries at ERROR a minute; `memory`: of the containers' limit
 * - `store: { memory, cpu, evicted }`: of Memorystore
 */
export function simulate ({ seed = 1, minutes, demand, events = [], target = 0.9, max = 1_000, publish = 20, detailed = false }) {
  const random = randomFrom(seed)
  const world = new World({ random, demand, events, target, max, publish, detailed })
  world.begin()
  for (let now = 0; now < minutes * MINUTE; now += TICK) world.tick(now)
  return { series: world.reports.series, entries: world.reports.entries, end: minutes * MINUTE }
}

class World {
  #options
  #random
  #instances = []
  #revision = 0
  #nextRevisionAt
  #born = 0
  #wantedLessSince = undefined
  #done = new Set()

  constructor (options) {
    this.#options = options
    this.#random = options.random
    this.reports = new Reports(options.random, options.detailed)
  }

  /** Instances that have been there for a while. */
  begin () {
    const wanted = this.#options.demand(0)
    const count = this.#desired(wanted)
    for (let i = 0; i < count; i++) {
      const one = this.#start(-Math.floor(this.#random() * 3_600_000) - MINUTE)
      one.open = Math.floor(wanted / count)
    }
  }

  tick (now) {
    if (this.#nextRevisionAt <= now) {
      this.#revision++
      for (const one of this.#instances) if (one.revision < this.#revision) one.retiredAt ??= now
      this.#nextRevisionAt = undefined
    }
    const seen = this.#happening(now)
    for (const one of this.#instances) one.live(now, TICK, this.#delivered(), seen)
    this.#connect(now, seen)
    this.#scale(now)
    for (const one of this.#instances) one.pushIfDue(now, seen)
    for (const one of this.#instances.filter(one => one.endsAt <= now)) this.reports.drained(now, one)
    this.#instances = this.#instances.filter(one => !(one.endsAt <= now))
    if (now % MINUTE === 0) this.reports.minute(now, { instances: this.#instances.length, open: this.#open(), seen })
  }

  #start (now) {
    const one = new Instance({ id: `i${this.#born++}`, revision: this.#revision, bornAt: now, random: this.#random, reports: this.reports })
    this.#instances.push(one)
    return one
  }

  /** What lasts, put together; what happens at once, once. */
  #happening (now) {
    const minute = now / MINUTE
    for (const event of this.#options.events) {
      if (event.at > minute || this.#done.has(event)) continue
      if (event.until === undefined) this.#done.add(event)
      if (event.until === undefined) this.#happen(event, now)
    }
    return Object.assign({}, ...this.#options.events.filter(({ at, until }) => at <= minute && minute < until))
  }

  #happen ({ redis, share = 1, deploy, restart, kill }, now) {
    if (redis !== undefined) {
      const hit = this.#instances.slice(0, Math.max(1, Math.round(share * this.#instances.length)))
      for (const one of hit) one.loseRedis(now, redis * 1_000)
    }
    if (deploy) {
      const count = this.#instances.length
      for (let i = 0; i < count; i++) this.#start(now).revision++
      this.#nextRevisionAt = now + STARTED
    }
    if (restart) {
      const old = [...this.#instances]
      for (const one of old) {
        this.#start(now)
        one.drain(now + this.#random() * MINUTE)
      }
    }
    if (kill) this.#instances.splice(0, kill)
  }

  #open () {
    return this.#instances.reduce((sum, { open }) => sum + open, 0)
  }

  /** Publications per second that each instance gets from the others. */
  #delivered () {
    const count = this.#instances.length
    return this.#options.publish * (count - 1) / Math.max(1, count)
  }

  #desired (open) {
    return Math.min(this.#options.max, Math.max(1, Math.ceil(open / (CONCURRENCY * this.#options.target))))
  }

  /** Clients that are not connected try; those that are too many leave. */
  #connect (now, seen) {
    const wanted = this.#options.demand(now / MINUTE)
    const open = this.#open()
    if (open > wanted) {
      for (const one of this.#instances) one.leave((open - wanted) * one.open / open)
      return
    }
    const attempts = this.#whole((wanted - open) / 2)
    const front = this.#whole(attempts * (seen.frontEnd?.share ?? 0))
    const refused = this.#whole((attempts - front) * (seen.refused?.share ?? 0))
    this.reports.requests(seen.frontEnd?.code ?? '429', front)
    const candidates = this.#instances.filter(one => one.accepts(now, this.#revision))
    if (refused > 0) this.#refuse(seen.refused.type, refused, candidates)
    this.#place(now, attempts - front - refused, candidates)
  }

  /**
   * To instances that have room, by how much they have. Of the rest full instances refuse some. Others wait for
   * instances that start, and are refused where there are none.
   */
  #place (now, attempts, candidates) {
    const room = candidates.reduce((sum, one) => sum + one.room, 0)
    const placed = Math.min(attempts, room)
    let left = placed
    for (const one of candidates) left -= one.accept(Math.min(left, this.#whole(placed * one.room / Math.max(1, room))))
    for (const one of candidates) left -= one.accept(Math.min(left, one.room))
    const rest = attempts - placed
    const byInstances = candidates.length === 0 ? 0 : this.#whole(rest * 0.1)
    this.#refuse('capacity', byInstances, candidates)
    if (!this.#instances.some(one => one.isStarting(now))) this.reports.requests('429', rest - byInstances)
  }

  #refuse (type, count, candidates) {
    const all = candidates.length === 0 ? this.#instances : candidates
    if (all.length === 0) return
    for (let left = count; left > 0;) {
      const some = Math.ceil(count / all.length)
      all[Math.floor(this.#random() * all.length)].refuse(type, Math.min(left, some))
      left -= some
    }
    this.reports.requests({ capacity: '503', draining: '503', rate_limit: '429', origin: '403', auth: '401', auth_failed: '503' }[type], count)
  }

  #scale (now) {
    const current = this.#instances.filter(one => one.revision === this.#revision && one.drainsAt === undefined)
    const desired = this.#desired(current.reduce((sum, { open }) => sum + open, 0))
    for (let i = current.length; i < desired; i++) this.#start(now)
    this.#wantedLessSince = desired < current.length ? this.#wantedLessSince ?? now : undefined
    if (now - this.#wantedLessSince > SCALE_IN_AFTER) {
      current.reduce((least, one) => one.open < least.open ? one : least).drain(now)
      this.#wantedLessSince = now - SCALE_IN_AFTER + MINUTE
    }
    for (const one of this.#instances) {
      if (one.revision === this.#revision || one.drainsAt !== undefined) continue
      one.emptySince = one.open > 0 ? undefined : one.emptySince ?? now
      if (now - one.emptySince > IDLE) one.drain(now)
    }
  }

  #whole (value) {
    return Math.floor(value + this.#random())
  }
}
