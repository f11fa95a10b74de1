// What one command, message or subscription costs Redis, and one publication or delivery an instance.
// Each is the difference of two readings.
import { setTimeout as wait } from 'node:timers/promises'
import { createClient } from 'redis'
import { Cluster } from './cluster.mjs'
import { Crowd } from './crowd.mjs'
import { importSource } from './source.mjs'

/** Clients that each wait for an answer before the next command. Pipelines would spare Redis system calls. */
const CLIENTS = 20
const ROUNDS = 5
const SUBSCRIBERS = 20
const CHANNELS = 100
const MEMBERS = 51
const PAYLOAD = 128
const ENVELOPE = `t 1732412345678 AAAAAAAA 0\n${'x'.repeat(PAYLOAD)}`
const pubsub = i => `ws:pub:{room${String(i).padStart(5, '0')}}`
const keys = (i, ...kinds) => [String(kinds.length), ...kinds.map(kind => `ws:${kind}:{room${String(i).padStart(5, '0')}}`)]

/** us of Redis, and bytes that it holds. `count`: commands of each kind. */
export async function redisCosts ({ url }, counters, count) {
  const bench = new RedisBench(await Promise.all(Array.from({ length: CLIENTS }, () => connect(url))), counters, count)
  const { allScripts, publishWithHistory, beginEpoch, readHistory, addMembers, removeMember, countInWindow } = await importSource('lib/backends/redis/scripts.ts')
  for (const { text } of allScripts) await counters.client.sendCommand(['SCRIPT', 'LOAD', text])
  const script = ({ sha1 }, keys, ...args) => ['EVALSHA', sha1, ...keys, ...args]
  const members = size => i => script(addMembers, keys(i % CHANNELS, 'members', 'members-until', 'members-users'), '60000', ...Array.from({ length: size }, (_, j) => [id(size === 1 ? i : j), `{"client":"${id(j)}","user":""}`]).flat())
  const known = ['AAAAAAAA', 'AAAAAAAA', '0', '', '']
  const pubsubArgs = i => ['PUBLISH', pubsub(i % CHANNELS), '300000']
  const positioned = i => keys(i % CHANNELS, 'stream', 'position')
  try {
    const publish = i => ['PUBLISH', pubsub(i % CHANNELS), `0  ${ENVELOPE}`]
    await bench.run(publish) // so that nothing is new to anybody
    const costs = { redis: await bench.idle(), ping: await bench.cpu(() => ['PING']), publish: await bench.cpu(publish) }
    Object.assign(costs, await bench.history(i => script(publishWithHistory, positioned(i), ENVELOPE, '1000', '60000', '604800000', ...pubsubArgs(i), ...known)))
    costs.beginEpoch = await bench.cpu(i => script(beginEpoch, keys(i % CHANNELS, 'no-position'), 'AAAAAAAA'))
    costs.readPosition = await bench.cpu(i => script(readHistory, positioned(i), '604800000', '120000', 'XRANGE', '-', '+', '0', '0', ...known))
    costs.record = costs.addMembers = await bench.cpu(members(1))
    Object.assign(costs, await bench.presence(members))
    costs.removeMember = await bench.cpu(i => script(removeMember, keys(i % CHANNELS, 'members', 'members-until', 'members-users'), id(i)))
    costs.countUpgrade = await bench.cpu(i => script(countInWindow, ['1', `ws:rate-limit:{10.0.0.${i % CHANNELS}}`], '60000'))
    return { ...costs, ...await bench.subscriptions(), ...await bench.messages(url, publish) }
  } finally {
    bench.close()
  }
}

const id = i => `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`

async function connect (url) {
  const client = createClient({ url, RESP: 3 })
  client.on('error', console.error)
  await client.connect()
  return client
}

class RedisBench {
  #clients
  #counters
  #count

  constructor (clients, counters, count) {
    this.#clients = clients
    this.#counters = counters
    this.#count = count
  }

  /** us of a second in which nothing is asked. */
  async idle () {
    const { cpu, time } = await this.#counters.during(() => wait(1_000))
    return cpu / time
  }

  /** Sends `count` commands, `clients` at a time. */
  run (command, count = this.#count, clients = CLIENTS) {
    let next = 0
    return this.#counters.during(() => Promise.all(this.#clients.slice(0, clients).map(async client => {
      while (next < count) await client.sendCommand(command(next++))
    })))
  }

  /** us of one command: the least of some rounds, as whatever else the machine does only adds to it. */
  async cpu (command, { count = this.#count, clients } = {}) {
    const each = Math.round(count / ROUNDS)
    const rounds = []
    while (rounds.length < ROUNDS) rounds.push((await this.run(command, each, clients)).cpu / each)
    return Math.min(...rounds)
  }

  /** us of a publication, bytes of a channel's first one, and of each after it beside its payload. */
  async history (publish) {
    const first = await this.run(publish, CHANNELS)
    const { memory } = await this.run(publish)
    const perEntry = memory / this.#count
    return { publishWithHistory: await this.cpu(publish), entryBytes: perEntry - PAYLOAD, channelBytes: first.memory / CHANNELS - perEntry }
  }

  /** us and bytes of each member, where one command brings many. Members of one id are in all channels. */
  async presence (members) {
    await this.#counters.client.sendCommand(['FLUSHDB'])
    const added = await this.run(members(MEMBERS), CHANNELS)
    const count = this.#count / 4
    const one = await this.cpu(i => members(1)(i % CHANNELS), { count })
    const many = await this.cpu(members(MEMBERS), { count })
    return { member: (many - one) / (MEMBERS - 1), memberBytes: added.memory / CHANNELS / MEMBERS }
  }

  /** us of a SUBSCRIBE and an UNSUBSCRIBE, and bytes of each subscription to a channel of its own. */
  async subscriptions () {
    const listener = () => {}
    const name = i => `${pubsub(i)}:own`
    const each = what => this.#counters.during(() => Promise.all(this.#clients.map(async (client, at) => {
      for (let i = at; i < this.#count; i += CLIENTS) await client[what](name(i), listener)
    })))
    const subscribed = await each('subscribe')
    const unsubscribed = await each('unsubscribe')
    return {
      subscribe: subscribed.cpu / this.#count,
      unsubscribe: unsubscribed.cpu / this.#count,
      subscriptionBytes: subscribed.memory / this.#count
    }
  }

  /**
   * us of each message to a subscriber: with a system call of its own, as with one publication at a time, and where
   * those of up to 20 publications leave in one. Bytes of a link.
   */
  async messages (url, publish) {
    const perPublication = clients => this.cpu(publish, { count: this.#count / 2, clients })
    const toNobody = [await perPublication(1), await perPublication(CLIENTS)]
    const opened = await this.#counters.during(() => Promise.all(Array.from({ length: SUBSCRIBERS }, () => connect(url))))
    const subscribers = opened.result
    const channels = Array.from({ length: CHANNELS }, (_, i) => pubsub(i))
    await Promise.all(subscribers.map(subscriber => subscriber.subscribe(channels, () => {})))
    const toAll = [await perPublication(1), await perPublication(CLIENTS)]
    for (const subscriber of subscribers) subscriber.destroy()
    const [message, messageTogether] = toAll.map((cpu, i) => (cpu - toNobody[i]) / SUBSCRIBERS)
    return { message, messageTogether, linkBytes: opened.memory / SUBSCRIBERS }
  }

  close () {
    for (const client of this.#clients) client.destroy()
  }
}

/** Publications per second of the two loads: to all clients, and to one of them each. */
const WIDE = 20
const NARROW = 400
const INSTANCE_ROUNDS = 3

/** us of an instance, per second and for each thing it does. One instance publishes, the other one has the clients. */
export async function instanceCosts (setup, { clients, seconds }) {
  const cluster = new Cluster({ server: 'plugin' }, { ...setup, instances: 2 })
  try {
    const ports = await cluster.call('port')
    const measure = async run => {
      const before = await cluster.call('figures')
      const startedAt = performance.now()
      await run()
      const after = await cluster.call('figures')
      return { cpu: after.map(({ cpu }, i) => cpu - before[i].cpu), time: (performance.now() - startedAt) / 1_000 }
    }
    await wait(1_000)
    const idle = await measure(() => wait(2_000 * seconds))
    const instance = (idle.cpu[0] + idle.cpu[1]) / 2 / idle.time
    const rss = (await cluster.figures()).rss / 2
    const load = async (channels, rate, perPublication) => {
      const crowd = new Crowd(ports, channels)
      await crowd.openPublishers([0])
      const coming = await measure(() => crowd.gather({ channels, perConnection: 1 }, Array.from({ length: clients }, () => 1)))
      const publish = seconds => crowd.publish({ rate, total: rate * seconds, expected: rate * seconds * perPublication })
      await publish(seconds)
      const rounds = []
      for (let i = 0; i < INSTANCE_ROUNDS; i++) rounds.push(await measure(() => publish(seconds)))
      crowd.leave()
      // The least of them, as with Redis.
      const cpu = [0, 1].map(at => Math.min(...rounds.map(({ cpu, time }) => (cpu[at] - instance * time) / (rate * seconds))))
      return { cpu, coming: (coming.cpu[1] - instance * coming.time) / clients }
    }
    const wide = await load(1, WIDE, clients)
    const narrow = await load(clients, NARROW, 1)
    const delivery = (wide.cpu[1] - narrow.cpu[1]) / (clients - 1)
    return { instance, rss, published: narrow.cpu[0], received: narrow.cpu[1] - delivery, delivery, coming: narrow.coming }
  } finally {
    await cluster.stop()
  }
}
