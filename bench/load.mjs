// Opens the clients, publishes and counts what arrives, in a process of its own.
import { setTimeout as wait } from 'node:timers/promises'
import { answer } from './answer.mjs'
import { Client } from './client.mjs'
import { writeMessage } from './message.mjs'
import { Tally } from './tally.mjs'
import { wires } from './wires.mjs'

/** Clients that are on their way in at the same time. */
const CONNECTING = 64
const CONNECT_TIMEOUT = 30_000
/** ms between two looks at whether everything has arrived. */
const LOOK_INTERVAL = 20
/** ms without progress after which the rest counts as lost. */
const STALLED = 3_000
/** ms after which the rest counts as lost anyway. */
const ARRIVE_TIMEOUT = 30_000

const tally = new Tally()
/**
 * What clients count by. `sentAt` holds for each publisher when each of its messages was sent. Numbers below
 * `firstNumber` are left over from before.
 */
const counter = { tally, channels: 1, sentAt: [], firstNumber: [], onMessage: undefined }
let subscribers = []
let publishers = []
/** Subscribers of each channel. */
let audience = []
/** Messages sent, over all publishers. */
let turn = 0
let wire
let stopPublishing

async function openSubscribers (ports, on, clients) {
  let next = 0
  await Promise.all(Array.from({ length: CONNECTING }, async () => {
    while (next < clients) {
      const i = next++
      const server = on[i % on.length]
      const channels = channelsOf(Math.floor(i / on.length), i, clients)
      const client = new Client(wire, { server, channels, counter })
      subscribers.push(client)
      await client.open(ports[server], 'subscriber', CONNECT_TIMEOUT)
      for (const channel of channels) audience[channel]++
    }
  }))
}

/** Clients of one channel are on all servers; where there are more channels than clients, each has several. */
function channelsOf (turn, i, clients) {
  const { channels } = counter
  if (channels <= clients) return [turn % channels]
  const own = []
  for (let channel = i; channel < channels; channel += clients) own.push(channel)
  return own
}

/** Returns how many clients it goes to. */
function publish () {
  const publisher = turn % publishers.length
  const channel = Math.floor(turn++ / publishers.length) % counter.channels
  const times = counter.sentAt[publisher]
  const message = writeMessage(publisher, times.length, channel)
  times.push(performance.now())
  publishers[publisher].socket.write(publishers[publisher].publication(message))
  return audience[channel]
}

/**
 * Sends `total` messages at an even rate, from the publishers in turn. A turn that comes late sends all that are due.
 * Returns how many deliveries are expected.
 */
function publishAll (rate, total) {
  const startedAt = performance.now()
  let sent = 0
  let expected = 0
  return new Promise(resolve => {
    const timer = setInterval(() => {
      const due = Math.min(total, 1 + Math.floor((performance.now() - startedAt) * rate / 1_000))
      while (sent < due) {
        expected += publish()
        sent++
      }
      if (sent < total) return
      clearInterval(timer)
      resolve(expected)
    }, 1)
  })
}

async function arrived (expected, timeout = ARRIVE_TIMEOUT) {
  const deadline = performance.now() + timeout
  let before = tally.received
  let progressAt = performance.now()
  while (tally.received < expected && performance.now() < deadline && performance.now() - progressAt < STALLED) {
    await wait(LOOK_INTERVAL)
    if (tally.received > before) progressAt = performance.now()
    before = tally.received
  }
}

function cpu () {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** How many clients a server has closed, by the code it gave. */
function closed () {
  const codes = {}
  for (const { closeCode } of [...subscribers, ...publishers]) if (closeCode !== undefined) codes[closeCode] = (codes[closeCode] ?? 0) + 1
  return codes
}

const closedCount = () => [...subscribers, ...publishers].filter(client => !client.isOpen).length

function begin () {
  counter.firstNumber = counter.sentAt.map(times => times.length)
  tally.clear()
}

/** When, after a moment, all publications arrive everywhere and as fast as usual again. */
class Recovery {
  #since
  #expected
  #usual
  /** Of each publication: when it was sent, how often it has arrived, how long that took at the most. */
  #seen = new Map()
  #first = counter.sentAt.map(times => times.length)

  constructor (usual) {
    this.#since = performance.now()
    this.#expected = subscribers.filter(client => client.isOpen).length
    this.#usual = usual
  }

  message = (publisher, number, now) => {
    if (number < this.#first[publisher]) return
    const sentAt = counter.sentAt[publisher][number]
    const seen = this.#seen.get(sentAt) ?? { count: 0, slowest: 0 }
    this.#seen.set(sentAt, seen)
    seen.count++
    seen.slowest = Math.max(seen.slowest, now - sentAt)
  }

  /** ms until the first publication from which on all were as usual; undefined: there was none. */
  get time () {
    const open = Math.min(this.#expected, subscribers.filter(client => client.isOpen).length)
    const times = counter.sentAt.flatMap((sent, publisher) => sent.slice(this.#first[publisher])).sort((a, b) => b - a)
    let recovered
    for (const sentAt of times) {
      const seen = this.#seen.get(sentAt)
      if (seen === undefined || seen.count < open || seen.slowest > this.#usual) break
      recovered = sentAt
    }
    return recovered === undefined ? undefined : recovered - this.#since
  }
}

answer({
  /**
   * Opens `clients` that are subscribed, spread over the servers and channels, and one publisher per server if
   * `publishing`. `on` holds the indexes of the servers that have subscribers. Returns how long it took, in ms.
   */
  async connect ({ ports, clients, wireName, publishing, channels = 1, on = ports.map((_, i) => i) }) {
    wire = wires[wireName]
    counter.channels = channels
    counter.sentAt = ports.map(() => [])
    audience = new Array(channels).fill(0)
    turn = 0
    subscribers = []
    begin()
    // The servers' plain route publishes; an SDK's wire would only make the publishing differ.
    const publisherWire = wire.publication === undefined ? wires.plain : wire
    const open = (port, server) => Object.assign(new Client(publisherWire, { server, channels: [], counter }), { publication: publisherWire.publication }).open(port, 'publisher', CONNECT_TIMEOUT)
    publishers = publishing ? await Promise.all(ports.map(open)) : []
    const startedAt = performance.now()
    await openSubscribers(ports, on, clients)
    return performance.now() - startedAt
  },

  /** Publishes for some seconds, then waits up to `patience` ms for what is still under way. Times in ms, CPU in us. */
  async publish ({ rate, seconds, patience }) {
    const total = Math.round(rate * seconds)
    begin()
    const closedBefore = closedCount()
    const cpuBefore = cpu()
    const startedAt = performance.now()
    const expected = await publishAll(rate, total)
    await arrived(expected, patience)
    return {
      publications: total,
      expected,
      ...tally.figures,
      time: performance.now() - startedAt,
      closed: closedCount() - closedBefore,
      cpu: cpu() - cpuBefore
    }
  },

  /**
   * Publishes faster than can be carried, then slowly again, without a pause. Usually no delivery takes longer than
   * `usual` ms.
   */
  async overload ({ rate, seconds, afterRate, afterSeconds, usual }) {
    begin()
    const expected = await publishAll(rate, Math.round(rate * seconds))
    const recovery = new Recovery(usual)
    const last = counter.sentAt.map(times => times.length)
    let afterReceived = 0
    counter.onMessage = (publisher, number, now) => {
      if (number >= last[publisher]) afterReceived++
      recovery.message(publisher, number, now)
    }
    const afterExpected = await publishAll(afterRate, Math.round(afterRate * afterSeconds))
    await arrived(expected + afterExpected)
    counter.onMessage = undefined
    return { expected, ...tally.figures, received: tally.received - afterReceived, recoveredAfter: recovery.time, closed: closed() }
  },

  /** Publishes until `stop`, which gives the figures. */
  start (rate) {
    begin()
    const startedAt = performance.now()
    let sent = 0
    let expected = 0
    const timer = setInterval(() => {
      const due = 1 + Math.floor((performance.now() - startedAt) * rate / 1_000)
      for (; sent < due; sent++) expected += publish()
    }, 1)
    stopPublishing = async () => {
      clearInterval(timer)
      await arrived(expected)
      return { expected, ...tally.figures, closed: closedCount() }
    }
  },

  stop: () => stopPublishing(),

  closed: closedCount,

  disconnect () {
    for (const { socket } of [...subscribers, ...publishers]) socket.resetAndDestroy()
    subscribers = publishers = []
  }
})
