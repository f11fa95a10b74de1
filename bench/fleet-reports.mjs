// What Cloud Monitoring and Cloud Logging have of a simulated fleet (fleet.mjs).

const LOCATION = 'europe-west1'
const TARGET = { job: 'chat', cluster: '__run__', location: LOCATION }
const REVISION = { monitored_resource: 'cloud_run_revision', service_name: 'chat', location: LOCATION }
const VALKEY = { monitored_resource: 'memorystore.googleapis.com/Instance', instance_id: 'chat-valkey', location: LOCATION }
const REDIS = { monitored_resource: 'redis_instance', instance_id: 'projects/p/locations/europe-west1/instances/chat-redis', region: LOCATION }
/** ms until a sample of Google's own metrics can be seen: two to three minutes. */
const DELAY = 120_000
const MINUTE = 60_000
const CONCURRENCY_BOUNDS = Array.from({ length: 22 }, (_, i) => (i + 1) * 50)
const MEMORY_BOUNDS = Array.from({ length: 20 }, (_, i) => (i + 1) / 20)

export class Reports {
  series = new Map()
  detailed
  /** Log entries: `{ time, event, … }`. */
  entries = []
  #random
  #requests = new Map()
  #drained = []

  /** `detailed`: also what only the dashboard shows. */
  constructor (random, detailed) {
    this.#random = random
    this.detailed = detailed
  }

  /** Series of an instance, which it pushes together. `keys` are name and attributes. */
  instance (id, keys) {
    const [times, arrivals] = [[], []]
    const columns = keys.map(key => {
      const split = key.indexOf(' ')
      const values = []
      this.#add(key.slice(0, split), { labels: { ...TARGET, instance: id, ...JSON.parse(key.slice(split + 1)) }, times, arrivals, values })
      return values
    })
    return {
      push (time, arrival, values) {
        times.push(time)
        arrivals.push(Math.max(arrival, arrivals.at(-1) ?? 0))
        columns.forEach((column, i) => column.push(values[i]))
      }
    }
  }

  requests (code, count) {
    if (count > 0) this.#requests.set(code, (this.#requests.get(code) ?? 0) + count)
  }

  drained (now, { id }) {
    this.#drained.push({ id, ms: 1_000 + this.#random() * 3_000 })
    this.log(now, id, 'INFO', 'drain.finished', 'All WebSocket connections are closed')
  }

  log (time, instance, severity, event, message) {
    this.entries.push({ time, instance, severity, event, message })
  }

  /** What Google's own metrics say of the minute that has ended. */
  minute (now, { instances, open, seen }) {
    for (const [code, count] of this.#requests) {
      this.#sample('run_googleapis_com:request_count', { ...REVISION, response_code: code, response_code_class: `${code[0]}xx` }, now, count, true)
    }
    this.#requests.clear()
    this.#sample('run_googleapis_com:container_instance_count', { ...REVISION, state: 'active' }, now, instances)
    this.#sample('run_googleapis_com:container_billable_instance_time', REVISION, now, instances * 60, true)
    const concurrency = open / Math.max(1, instances)
    for (const le of CONCURRENCY_BOUNDS) {
      const count = concurrency <= le ? instances : 0
      this.#sample('run_googleapis_com:container_max_request_concurrencies_bucket', { ...REVISION, le: String(le) }, now, count, true)
    }
    const memory = seen.memory ?? 0.4 + 0.05 * this.#random()
    for (const le of MEMORY_BOUNDS) {
      this.#sample('run_googleapis_com:container_memory_utilizations_bucket', { ...REVISION, le: String(le) }, now, memory <= le ? instances : 0, true)
    }
    const errors = Math.floor((seen.failing ?? 0.01) + this.#random())
    if (errors > 0) this.#sample('logging_googleapis_com:user_websocket_errors', { ...REVISION, event: 'connection.failed' }, now, errors, true)
    this.#drains(now)
    this.#store(now, seen.store ?? {})
  }

  #drains (now) {
    if (this.#drained.length === 0) return
    for (const le of [1_000, 2_000, 3_000, 4_000, 5_000, 8_000, Infinity]) {
      const count = this.#drained.filter(({ ms }) => ms <= le).length
      this.#sample('logging_googleapis_com:user_websocket_drain_duration_bucket', { ...REVISION, le: String(le).replace('Infinity', '+Inf') }, now, count, true)
    }
    this.#sample('logging_googleapis_com:user_websocket_drain_terminated_sum', REVISION, now, 0, true)
    this.#drained = []
  }

  #store (now, { memory = 0.3, cpu = 0.2, evicted = 0 }) {
    const valkey = 'memorystore_googleapis_com:instance'
    this.#sample(`${valkey}_memory_maximum_utilization`, VALKEY, now, memory)
    this.#sample(`${valkey}_cpu_maximum_utilization`, VALKEY, now, cpu)
    this.#sample(`${valkey}_stats_total_evicted_keys_count`, VALKEY, now, evicted, true)
    const redis = 'redis_googleapis_com:stats'
    this.#sample(`${redis}_memory_usage_ratio`, REDIS, now, memory)
    this.#sample(`${redis}_evicted_keys`, REDIS, now, evicted, true)
    for (const [space, part] of [['user', 0.7], ['sys', 0.3]]) {
      this.#sample(`${redis}_cpu_utilization_main_thread`, { ...REDIS, relationship: 'parent', space }, now, cpu * part * 60, true)
    }
  }

  #sample (name, labels, time, value, isDelta = false) {
    const text = JSON.stringify(labels)
    let one = this.series.get(name)?.find(({ key }) => key === text)
    if (one === undefined) this.#add(name, one = { key: text, labels, times: [], arrivals: [], values: [], isDelta })
    one.times.push(time)
    one.arrivals.push(Math.max(one.arrivals.at(-1) ?? 0, time + DELAY + this.#random() * MINUTE))
    one.values.push(value)
  }

  #add (name, one) {
    if (!this.series.has(name)) this.series.set(name, [])
    this.series.get(name).push(one)
  }
}
