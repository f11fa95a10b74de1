// Clients of the real client libraries, with their defaults, in a process of their own.
// They note every number that comes.
import { Centrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import { EventSource } from 'eventsource'
import { io } from 'socket.io-client'
import WebSocket from 'ws'
import { answer } from './answer.mjs'

/** Clients that are on their way in at the same time. */
const CONNECTING = 16
const CONNECT_TIMEOUT = 60_000
/** Messages of one run at the most. */
const MAX_MESSAGES = 32_768
/** Clients of which it is told what went wrong. */
const EXAMPLES = 3

class Client {
  /** How often each number came. */
  counts = new Uint8Array(MAX_MESSAGES)
  received = 0
  highest = -1
  twice = 0
  disordered = 0
  here = false
  /** How it ended for good, in the words of its library. */
  ended
  /** What its library reported, the last few. */
  errors = []
  /** Each time it had been away: the highest number from before, and what was said of what it missed. */
  returns = []
  #lastAt
  #blindSince
  /** ms without a message, the longest time around a move. */
  blind

  take (text) {
    const now = performance.now()
    const number = Number.parseInt(text)
    if (this.#blindSince !== undefined) {
      this.blind = Math.max(this.blind ?? 0, now - this.#blindSince)
      this.#blindSince = undefined
    }
    this.#lastAt = now
    this.received++
    if (this.counts[number]++ > 0) this.twice++
    else if (number < this.highest) this.disordered++
    else this.highest = number
  }

  failed ({ code, message }) {
    this.errors = [...this.errors, `${Math.round(performance.now())} ms: ${code} ${message}`].slice(-EXAMPLES)
  }

  arrived (recovered) {
    this.here = true
    const move = this.returns.at(-1)
    if (move !== undefined) move.recovered = recovered
  }

  left () {
    if (!this.here) return
    this.here = false
    this.#blindSince ??= this.#lastAt
    this.returns.push({ after: this.highest, recovered: undefined })
  }

  /** Numbers that never came, of `total`, but for those that the publisher knows to have failed. */
  missing (total, refused) {
    const numbers = []
    for (let number = 0; number < total; number++) if (this.counts[number] === 0 && !refused.has(number)) numbers.push(number)
    return numbers
  }

  /** Whether it was told to have missed nothing, and has. */
  wronglyRecovered (missing) {
    return this.returns.some(({ after, recovered }, i) => {
      const end = this.returns[i + 1]?.after ?? Infinity
      return recovered === true && missing.some(number => number > after && number <= end)
    })
  }
}

const libraries = {
  json: (client, port) => openCentrifuge(client, port, Centrifuge, asIs),
  protobuf: (client, port) => openCentrifuge(client, port, ProtobufCentrifuge, fromBytes),
  http_stream: (client, port) => openCentrifuge(client, port, Centrifuge, asIs, 'http_stream'),
  'http_stream protobuf': (client, port) => openCentrifuge(client, port, ProtobufCentrifuge, fromBytes, 'http_stream'),
  sse: (client, port) => openCentrifuge(client, port, Centrifuge, asIs, 'sse'),
  uni_sse (client, port) {
    const source = new EventSource(`http://127.0.0.1:${port}/connection/uni_sse?channel=room:1`)
    source.addEventListener('connected', ({ data }) => client.arrived(JSON.parse(data).channels['room:1'].recovered === true))
    source.addEventListener('error', () => {
      client.left()
      if (source.readyState === EventSource.CLOSED) client.ended = 'closed'
    })
    source.addEventListener('message', ({ data }) => {
      const { data: text } = JSON.parse(data)
      if (text !== undefined) client.take(text)
    })
  },
  'socket.io' (client, port) {
    const socket = io(`http://127.0.0.1:${port}`, { transports: ['websocket'], forceNew: true })
    socket.on('connect', () => client.arrived(socket.recovered))
    socket.on('disconnect', reason => {
      client.left()
      if (!socket.active) client.ended = reason
    })
    socket.on('connect_error', error => {
      client.failed(error)
      if (!socket.active) client.ended = error.message
    })
    socket.on('m', text => client.take(text))
  }
}

function asIs (data) {
  return data
}

/** What is published as JSON comes as bytes of JSON: a text has quotes around it. */
function fromBytes (data) {
  return Buffer.from(data).toString('latin1', 1)
}

function openCentrifuge (client, port, Library, decode, transport) {
  const url = `127.0.0.1:${port}`
  const centrifuge = transport === undefined
    ? new Library(`ws://${url}/connection/websocket`, { websocket: WebSocket })
    : new Library([{ transport, endpoint: `http://${url}/connection/${transport}` }], { eventsource: EventSource, emulationEndpoint: `http://${url}/emulation` })
  const subscription = centrifuge.newSubscription('room:1')
  subscription.on('subscribed', ({ wasRecovering, recovered }) => client.arrived(wasRecovering && recovered))
  subscription.on('subscribing', () => client.left())
  subscription.on('unsubscribed', ({ code, reason }) => {
    client.left()
    client.ended = `${code} ${reason}`
  })
  centrifuge.on('disconnected', ({ code, reason }) => {
    client.left()
    client.ended = `${code} ${reason}`
  })
  for (const emitter of [centrifuge, subscription]) emitter.on('error', ({ error }) => client.failed(error))
  subscription.on('publication', ({ data }) => client.take(decode(data)))
  subscription.subscribe()
  centrifuge.connect()
}

const clients = []

function count (condition) {
  return clients.reduce((sum, client) => sum + (condition(client) ? 1 : 0), 0)
}

function sum (list, value) {
  return list.reduce((total, one) => total + value(one), 0)
}

async function until (condition, what) {
  const deadline = performance.now() + CONNECT_TIMEOUT
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not ${what} within ${CONNECT_TIMEOUT / 1_000} s`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

answer({
  /** One client for each of `kinds`. */
  async connect ({ port, kinds }) {
    let next = 0
    await Promise.all(Array.from({ length: CONNECTING }, async () => {
      while (next < kinds.length) {
        const client = new Client()
        clients.push(client)
        libraries[kinds[next++]](client, port)
        await until(() => client.here, 'subscribed')
      }
    }))
  },

  /** Clients that are here, those that got this number, and all messages. */
  progress: number => ({
    here: count(client => client.here),
    done: count(client => client.counts[number] > 0),
    received: sum(clients, client => client.received)
  }),

  result ({ total, refused }) {
    const known = new Set(refused)
    const all = clients.map(client => ({ client, missing: client.missing(total, known) }))
    const isWrong = ({ client, missing }) => client.wronglyRecovered(missing)
    const moved = clients.filter(client => client.returns.length > 0)
    return {
      moved: moved.length,
      recovered: moved.filter(client => client.returns.every(({ recovered }) => recovered === true)).length,
      lost: sum(all, ({ missing }) => missing.length),
      twice: sum(clients, client => client.twice),
      disordered: sum(clients, client => client.disordered),
      wrong: all.filter(isWrong).length,
      gone: count(client => !client.here || client.ended !== undefined),
      blinds: moved.map(({ blind }) => blind).filter(blind => blind !== undefined),
      examples: all.filter(one => one.missing.length > 0 || one.client.twice > 0 || one.client.disordered > 0 || !one.client.here)
        .sort((one, other) => Number(isWrong(other)) - Number(isWrong(one)))
        .slice(0, EXAMPLES)
        .map(({ client: { twice, disordered, here, ended, errors, returns }, missing }) => ({
          missing: missing.length,
          first: missing[0],
          last: missing.at(-1),
          twice,
          disordered,
          here,
          ended,
          errors,
          returns
        }))
    }
  }
})
