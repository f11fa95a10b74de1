import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../index.ts'
import type { Options, StreamPart } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../helpers/sdk.ts'
import type { SdkClient } from '../helpers/sdk.ts'
import { Texts } from '../helpers/text-client.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(240_000)

const channels: Options['channels'] = { answer: { subscribe: true, stream: true, history: { size: 20, ttl: '10m' } }, chat: { history: { size: 20, ttl: '1m' } } }

/** A source whose chunks the test hands out. It writes down whether it was ended, and how often it was asked. */
function source () {
  const waiting: Array<(result: IteratorResult<string>) => void> = []
  const chunks: Array<IteratorResult<string>> = []
  const state = { asked: 0, returned: 0 }
  const give = (chunk: IteratorResult<string>) => {
    const taker = waiting.shift()
    if (taker === undefined) chunks.push(chunk)
    else taker(chunk)
  }
  return {
    state,
    push: (...texts: string[]) => { for (const value of texts) give({ value, done: false }) },
    end: () => give({ value: undefined, done: true }),
    iterable: {
      [Symbol.asyncIterator]: () => ({
        next () {
          state.asked++
          const chunk = chunks.shift()
          return chunk === undefined ? new Promise<IteratorResult<string>>(resolve => { waiting.push(resolve) }) : Promise.resolve(chunk)
        },
        async return () {
          state.returned++
          return { value: undefined, done: true as const }
        }
      })
    }
  }
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const words = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `word${from + i} `)

/** A client's texts in one channel. */
function textsOf (client: SdkClient, channel: string) {
  const texts = new Texts()
  const subscription = client.subscribe(channel)
  subscription.sub.on('publication', ({ data }) => texts.take(client.dec(data) as StreamPart))
  return { texts, subscription }
}

async function startOne (t: Test, backend: 'memory' | 'Redis', options: Options = {}) {
  const redis = backend === 'memory' ? false : (await startRedis(t)).url
  return startApp(t, { redis, keyPrefix: randomPrefix(), channels, ...options })
}

for (const backend of ['memory', 'Redis'] as const) {
  for (const encoding of encodings) {
    t.test(`who is there, who comes late and who comes back have the same text, on ${backend}, in ${encoding}`, async (t) => {
      const redis = backend === 'memory' ? undefined : await startRedis(t)
      const instances = await startInstances(t, redis === undefined ? 1 : 2, { channels }, redis)
      const [one, other] = [instances[0]!, instances.at(-1)!]
      const early = textsOf(sdkClient(t, other.url, encoding), 'answer:1')
      const returning = sdkClient(t, other.url, encoding)
      const back = textsOf(returning, 'answer:1')
      await Promise.all([early.subscription.subscribed(), back.subscription.subscribed()])
      const model = source()
      const streaming = one.app.realtime.stream('answer:1', model.iterable, { id: 'a', batchDelay: 0 })
      let text = ''
      const say = async (...chunks: string[]) => {
        for (const chunk of chunks) {
          model.push(chunk)
          text += chunk
          await until(() => early.texts.text('a') === text, 'it has arrived')
        }
      }
      await say(...words(1, 15))
      const late = textsOf(sdkClient(t, other.url, encoding), 'answer:1')
      await late.subscription.subscribed()
      await until(() => late.texts.text('a') === text, 'who is late has all')
      t.equal(late.texts.parts.length, 1, 'in one publication')
      returning.client.disconnect()
      await say(...words(16, 20))
      const before = back.texts.parts.length
      returning.client.connect()
      await back.subscription.subscribed(2)
      t.match(back.subscription.events.subscribed.at(-1), { wasRecovering: true, recovered: true })
      await until(() => back.texts.text('a') === text, 'who comes back has all')
      t.equal(back.texts.parts.length, before + 1, 'in one publication')
      await say(...words(21, 60))
      model.end()
      const result = await streaming
      const all = [early, late, back]
      await until(() => all.every(({ texts }) => texts.end('a') === 'done'), 'all know the end')
      t.strictSame(all.map(({ texts }) => texts.text('a')), [text, text, text])
      t.match(result, { id: 'a', text, end: 'done', offset: early.subscription.offsets.at(-1) })
      t.strictSame(await one.app.realtime.history('answer:1', { limit: 0 }).then(({ offset, epoch }) => ({ offset, epoch })), { offset: result.offset, epoch: result.epoch })
      const after = textsOf(sdkClient(t, one.url, encoding), 'answer:1')
      await until(() => after.texts.end('a') === 'done', 'who comes after the end has it, too')
      t.equal(after.texts.text('a'), text)
      t.strictSame(after.subscription.events.publication.map(({ tags }) => tags), [{ stream: 'a' }])
    })
  }

  t.test(`a plain client gets the text so far in one message, on ${backend}`, async (t) => {
    const { app, url } = await startOne(t, backend)
    const model = source()
    const streaming = app.realtime.stream('answer:1', model.iterable, { batchDelay: 0 })
    model.push('Hello')
    await until(async () => (await app.realtime.history('answer:1')).publications.length === 1, 'it is published')
    model.push(' world')
    await until(async () => (await app.realtime.history('answer:1')).publications.length === 2, 'it is published')
    const client = await connect(t, `${url}/ws`)
    await [...app.realtime.connections][0]!.subscribe('answer:1')
    const first = JSON.parse(String(await client.next())) as StreamPart
    t.match(first, { from: 0, text: 'Hello world' })
    model.push('!')
    t.strictSame(JSON.parse(String(await client.next())), { stream: first.stream, from: 11, text: '!' })
    model.end()
    t.match(JSON.parse(String(await client.next())), { from: 0, text: 'Hello world!', end: 'done' })
    await streaming
  })

  t.test(`a publication of the app in between comes once to all who subscribe by position, on ${backend}`, async (t) => {
    const { app, url } = await startOne(t, backend)
    const { realtime } = app
    const client = sdkClient(t, url, 'json')
    const subscription = await client.subscribe('answer:1').subscribed()
    const models = [source(), source()]
    const streaming = models.map((model, i) => realtime.stream('answer:1', model.iterable, { id: `s${i}`, batchDelay: 0 }))
    models[0]!.push('a')
    await subscription.arrived(1)
    models[1]!.push('x')
    await subscription.arrived(2)
    client.client.disconnect()
    await realtime.publish('answer:1', { note: 1 })
    models[0]!.push('b')
    await until(async () => (await realtime.history('answer:1')).publications.length === 4, 'it is published')
    await realtime.publish('answer:1', { stream: 's0', from: 'not a part' }, { tags: { stream: 's0' } })
    const late = sdkClient(t, url, 'json')
    const fresh = await late.subscribe('answer:1').subscribed()
    await fresh.arrived(2)
    t.strictSame(fresh.data, [{ stream: 's1', from: 0, text: 'x' }, { stream: 's0', from: 0, text: 'ab' }])
    t.strictSame(fresh.offsets, [2, 5], 'the last one has the position of the channel')
    late.client.disconnect()
    late.client.connect()
    client.client.connect()
    await Promise.all([subscription.subscribed(2), fresh.subscribed(2)])
    await realtime.publish('answer:1', 'last')
    await Promise.all([subscription.arrived(6), fresh.arrived(3)])
    t.strictSame(subscription.data.slice(2), [{ note: 1 }, { stream: 's0', from: 1, text: 'b' }, { stream: 's0', from: 'not a part' }, 'last'])
    t.strictSame(fresh.data.slice(2), ['last'], 'nothing comes twice')
    for (const model of models) model.end()
    await Promise.all(streaming)
  })

  t.test(`chunks leave together after the batch delay, at once if there are many, and no pair is cut in two, on ${backend}`, async (t) => {
    const { app: { realtime } } = await startOne(t, backend)
    const model = source()
    const seen: StreamPart[] = []
    await realtime.listen('answer:1', ({ data }) => { seen.push(data as StreamPart) })
    const streaming = realtime.stream('answer:1', model.iterable, { id: 'a', batchDelay: '1s' })
    model.push('first')
    await until(() => seen.length === 1, 'the first one leaves at once')
    model.push(...words(1, 50))
    model.push('.'.repeat(4_096))
    await until(() => seen.length === 2, 'many leave at once')
    t.equal(seen[1]!.text, words(1, 50).join('') + '.'.repeat(4_096))
    model.push('\ud83d')
    model.push('\ude00', '', '\ud83d')
    model.end()
    await streaming
    await until(() => seen.at(-1)!.end, 'the end is there')
    for (const { text, end } of seen) t.ok(end !== undefined || text.isWellFormed())
    t.match(seen.at(-1)!.text, /\ud83d\ude00\ud83d$/)
  })

  t.test(`a pair of which half has come waits for the other half, on ${backend}`, async (t) => {
    const { app: { realtime } } = await startOne(t, backend)
    const model = source()
    const seen: StreamPart[] = []
    await realtime.listen('answer:1', ({ data }) => { seen.push(data as StreamPart) })
    const streaming = realtime.stream('answer:1', model.iterable, { batchDelay: 0 })
    model.push('a\ud83d')
    await until(() => seen.length === 1 && model.state.asked === 2, 'the part before it is there')
    model.push('\ude00')
    await until(() => seen.length === 2, 'the pair is there')
    model.end()
    await streaming
    t.strictSame(seen.slice(0, 2).map(({ from, text }) => [from, text]), [[0, 'a'], [1, '😀']])
  })

  t.test(`the history may be small: the whole text comes again in time, whatever else is published, on ${backend}`, async (t) => {
    const { app, url } = await startOne(t, backend)
    const model = source()
    const seen: StreamPart[] = []
    await app.realtime.listen('answer:1', ({ data }) => { if ((data as StreamPart).stream) seen.push(data as StreamPart) })
    const streaming = app.realtime.stream('answer:1', model.iterable, { id: 'a', batchDelay: 0 })
    let text = ''
    for (const [i, word] of words(1, 60).entries()) {
      text += word
      model.push(word)
      await until(() => seen.at(-1)?.text.endsWith(word), 'it is published')
      if (i % 3 === 0) await app.realtime.publish('answer:1', 'something else')
      if (i % 7 !== 0) continue
      const client = sdkClient(t, url, 'json')
      const { texts } = textsOf(client, 'answer:1')
      await until(() => texts.text('a') === text, `who comes after word ${i} has all`)
      client.client.disconnect()
    }
    t.ok(seen.filter(({ from }) => from === 0).length < 12, 'few have the whole text')
    model.end()
    await streaming
  })

  t.test(`stopStream stops it, on whichever instance, and the source is told, on ${backend}`, async (t) => {
    const redis = backend === 'memory' ? undefined : await startRedis(t)
    const instances = await startInstances(t, redis === undefined ? 1 : 2, { channels }, redis)
    const { realtime } = instances[0]!.app
    const seen: StreamPart[] = []
    await realtime.listen('answer:1', ({ data }) => { seen.push(data as StreamPart) })
    const [model, silent] = [source(), source()]
    let signal: AbortSignal | undefined
    const streaming = realtime.stream('answer:1', (text, given) => {
      signal = given
      t.equal(text, '')
      return model.iterable
    }, { id: 'a' })
    const other = realtime.stream('answer:1', silent.iterable, { id: 'b' })
    const elsewhere = realtime.stream('answer:2', silent.iterable, { id: 'a' })
    model.push('Hello')
    await until(() => seen.length === 1, 'it has begun')
    await instances.at(-1)!.app.realtime.stopStream('answer:1', 'a')
    t.match(await streaming, { id: 'a', text: 'Hello', end: 'stopped' })
    t.equal(signal?.aborted, true)
    t.equal(model.state.returned, 1)
    await until(() => seen.at(-1)?.end === 'stopped', 'listeners know')
    await realtime.stopStream('answer:1')
    t.match(await other, { text: '', end: 'stopped' }, 'without an id all streams of the channel are stopped')
    await realtime.stopStream('answer:2', 'a')
    await elsewhere
    await realtime.stopStream('answer:2', 'nobody')
  })

  t.test(`a stream can be stopped as soon as it was called, also while it takes over what is there, on ${backend}`, async (t) => {
    const { app: { realtime } } = await startOne(t, backend)
    for (const [id, text] of [['a', ''], ['b', 'Hello']] as const) {
      if (text !== '') await realtime.stream('answer:1', [text], { id })
      const silent = source()
      const streaming = realtime.stream('answer:1', silent.iterable, { id, resume: text !== '' })
      await t.rejects(realtime.stream('answer:1', silent.iterable, { id }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /another id/ })
      await realtime.stopStream('answer:1', id)
      t.match(await streaming, { text, end: 'stopped' })
    }
  })

  t.test(`a source that fails ends the stream: the app gets its error, clients only that of a ClientError, on ${backend}`, async (t) => {
    const { app: { realtime } } = await startOne(t, backend)
    const seen: StreamPart[] = []
    await realtime.listen('answer:1', ({ data }) => { seen.push(data as StreamPart) })
    const secret = new Error('the key sk-1 is wrong')
    const failing = (error: Error) => async function * () {
      yield 'Hel'
      throw error
    }
    await t.rejects(realtime.stream('answer:1', failing(secret)(), { id: 'a' }), secret)
    await t.rejects(realtime.stream('answer:1', failing(new ClientError(429, 'the model is busy'))(), { id: 'b' }), { code: 429 })
    await t.rejects(realtime.stream('answer:1', () => { throw secret }, { id: 'c' }), secret)
    await t.rejects(realtime.stream('answer:1', () => Promise.reject(secret), { id: 'd' }), secret)
    await t.rejects(realtime.stream('answer:1', ['a', 5 as never], { id: 'e' }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /chunk of a stream: got 5, expected a string/ })
    await t.rejects(realtime.stream('answer:1', (() => 'text') as never, { id: 'f' }), { code: 'FST_CRWS_INVALID_ARGUMENT', message: /source: got 'text'/ })
    await until(() => seen.filter(({ end }) => end !== undefined).length === 6, 'all ends are told')
    const ends = seen.filter(({ end }) => end !== undefined)
    t.strictSame(ends.map(({ end }) => end), Array(6).fill('failed'))
    t.strictSame(ends.map(({ stream, error }) => error && [stream, error]).filter(Boolean), [['b', { code: 429, message: 'the model is busy' }]])
    t.notMatch(JSON.stringify(seen), /sk-1/)
    t.match(ends.find(({ stream }) => stream === 'a'), { text: 'Hel' })
  })

  t.test(`a stream is resumed after the text that is there, on ${backend}`, async (t) => {
    const redis = backend === 'memory' ? undefined : await startRedis(t)
    const instances = await startInstances(t, redis === undefined ? 1 : 2, { channels }, redis)
    const other = instances.at(-1)!.app.realtime
    await instances[0]!.app.realtime.stream('answer:1', ['Hello ', 'wor'], { id: 'a' })
    await instances[0]!.app.realtime.stream('answer:1', ['something else'], { id: 'b' })
    const texts = new Texts()
    await other.listen('answer:1', ({ data }) => texts.take(data as StreamPart))
    const result = await other.stream('answer:1', text => [`${text.length}`, 'ld'], { id: 'a', resume: true })
    t.match(result, { text: 'Hello wor9ld', end: 'done' })
    await until(() => texts.end('a') === 'done', 'the end is there')
    t.equal(texts.text('a'), 'Hello wor9ld')
    t.match(await other.stream('answer:1', text => [text, 'new'], { id: 'c', resume: true }), { text: 'new' }, 'there was nothing')
    const calls = await Promise.allSettled(range(1, 5).map(n => instances[n % instances.length]!.app.realtime.stream('answer:1', ['!'], { id: 'a', resume: true })))
    const [done, refused] = [calls.filter(({ status }) => status === 'fulfilled'), calls.filter(({ status }) => status === 'rejected')]
    t.match(done, [{ value: { text: 'Hello wor9ld!' } }])
    t.equal(done.length, 1, 'of several calls one resumes it')
    t.match(refused, Array(4).fill({ reason: { code: 'FST_CRWS_STREAM_TAKEN' } }))
  })

  t.test(`who asks a moment later does not resume what is being resumed, on ${backend}`, async (t) => {
    const redis = backend === 'memory' ? undefined : await startRedis(t)
    const instances = await startInstances(t, redis === undefined ? 1 : 2, { channels }, redis)
    const [first, last] = [instances[0]!.app.realtime, instances.at(-1)!.app.realtime]
    const model = source()
    const resumed = first.stream('answer:1', model.iterable, { id: 'a', resume: true })
    const texts = new Texts()
    await last.listen('answer:1', ({ data }) => texts.take(data as StreamPart))
    model.push('Hello')
    await until(() => texts.text('a') === 'Hello', 'it has begun')
    const before = await first.history('answer:1', { limit: 0 })
    for (const realtime of [first, last]) {
      await t.rejects(realtime.stream('answer:1', ['!'], { id: 'a', resume: true }), { code: 'FST_CRWS_STREAM_TAKEN' })
    }
    t.strictSame(await first.history('answer:1', { limit: 0 }), before, 'they publish nothing')
    await last.stopStream('answer:1', 'a')
    t.match(await resumed, { text: 'Hello', end: 'stopped' })
    t.match(await last.stream('answer:1', ['!'], { id: 'a', resume: true }), { text: 'Hello!' }, 'once it has ended it can be resumed')
  })
}

t.test('a publisher that was only slow notices that its stream was resumed: it stops, and the other one mends the text', async (t) => {
  const redis = await startRedis(t)
  const [one, two] = await startInstances(t, 2, { channels }, redis)
  const client = textsOf(sdkClient(t, two!.url, 'json'), 'answer:1')
  await client.subscription.subscribed()
  const parts: StreamPart[] = []
  await two!.app.realtime.listen('answer:1', ({ data }) => { parts.push(data as StreamPart) })
  const [slow, fast] = [source(), source()]
  let error: unknown
  const begun = one!.app.realtime.stream('answer:1', slow.iterable, { id: 'a', batchDelay: 0 }).catch((thrown: unknown) => { error = thrown })
  slow.push('Hello ')
  await until(() => client.texts.text('a') === 'Hello ', 'it has begun')
  let given: string | undefined
  const resumed = two!.app.realtime.stream('answer:1', text => {
    given = text
    return fast.iterable
  }, { id: 'a', resume: true, batchDelay: 0 })
  fast.push('world')
  await until(() => client.texts.text('a') === 'Hello world', 'the other one goes on')
  t.equal(given, 'Hello ')
  await until(() => {
    if (error === undefined) slow.push('x')
    return error !== undefined
  }, 'the slow one stops')
  await begun
  t.match(error, { code: 'FST_CRWS_STREAM_TAKEN' })
  t.equal(slow.state.returned, 1, 'its source was ended')
  t.strictSame(parts.filter(({ end }) => end !== undefined), [], 'it has published no end')
  let pushed = 'Hello world'
  await until(() => {
    pushed += '!'
    fast.push('!')
    return parts.some(({ from, text }, i) => i > 2 && from === 0 && text.startsWith('Hello world!'))
  }, 'the whole text comes again')
  fast.end()
  t.match(await resumed, { text: pushed, end: 'done' })
  await until(() => client.texts.end('a') === 'done', 'the end')
  t.equal(client.texts.text('a'), pushed)
})

t.test('that another call has the stream is an expected answer: the log has no entry, and no client is closed', async (t) => {
  const { logger, entries } = collectLog()
  const model = source()
  const resume = () => app.realtime.stream('answer:1', model.iterable, { id: 'a', resume: true })
  const options: Options = { redis: false, channels, onMessage: resume, methods: { resume: { handler: resume } } }
  const { app, url } = await startApp(t, options, { logger })
  const running = resume()
  model.push('Hello')
  await t.rejects(resume(), { code: 'FST_CRWS_STREAM_TAKEN' })
  const plain = await connect(t, `${url}/ws`)
  plain.send('resume')
  plain.send('{"id":1,"method":"resume"}')
  await until(() => plain.messages.length > 0, 'the answer')
  t.match(JSON.parse(String(plain.messages[0])), { id: 1, error: { code: 100 } })
  t.equal(plain.socket.readyState, plain.socket.OPEN)
  model.end()
  await running
  t.strictSame(entries.filter(({ level }) => level >= 40), [])
})

t.test('a source that nobody waits for gives no more than may wait', async (t) => {
  const redis = await startRedis(t)
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), channels })
  let given = 0
  async function * model () {
    while (given < 100) {
      given++
      yield '.'.repeat(1_000)
    }
  }
  redis.freeze()
  const streaming = app.realtime.stream('answer:1', model(), { id: 'a' })
  await until(() => given === 66, 'it waits')
  await until(async () => (await app.inject('/ready')).json().redis === 'down', 'Redis is away', 60_000)
  t.equal(given, 66)
  redis.thaw()
  t.match(await streaming, { end: 'done', text: '.'.repeat(100_000) })
})

for (const fault of ['freezes', 'loses everything'] as const) {
  t.test(`Redis ${fault} in mid-answer: the text goes on, and everybody has all of it`, async (t) => {
    const redis = await startRedis(t)
    const instances = await startInstances(t, 2, { channels }, redis)
    const clients = instances.map(({ url }) => textsOf(sdkClient(t, url, 'json'), 'answer:1'))
    await Promise.all(clients.map(({ subscription }) => subscription.subscribed()))
    const model = source()
    const streaming = instances[0]!.app.realtime.stream('answer:1', model.iterable, { id: 'a', batchDelay: 0 })
    const text = words(1, 30).join('')
    const all = (expected: string) => until(() => clients.every(({ texts }) => texts.text('a') === expected), 'all have it', 60_000)
    model.push(...words(1, 10))
    await all(words(1, 10).join(''))
    if (fault === 'freezes') redis.freeze()
    else await command(redis.port, ['FLUSHALL'])
    model.push(...words(11, 20))
    if (fault === 'freezes') {
      await until(async () => (await instances[0]!.app.inject('/ready')).json().redis === 'down', 'Redis is away', 60_000)
      redis.thaw()
    }
    await all(words(1, 20).join(''))
    const late = textsOf(sdkClient(t, instances[1]!.url, 'json'), 'answer:1')
    await until(() => late.texts.text('a') === words(1, 20).join(''), 'who comes late has it')
    model.push(...words(21, 30))
    model.end()
    t.match(await streaming, { text, end: 'done' })
    await all(text)
  })
}

t.test('the signal of the app stops a stream, also before it has begun', async (t) => {
  const { app: { realtime } } = await startOne(t, 'memory')
  const stop = new AbortController()
  const model = source()
  const streaming = realtime.stream('answer:1', model.iterable, { signal: stop.signal })
  model.push('a')
  await until(() => model.state.asked === 2, 'it waits for more')
  stop.abort()
  t.match(await streaming, { text: 'a', end: 'stopped' })
  const never = () => { throw new Error('nobody asks for it') }
  t.match(await realtime.stream('answer:1', never, { signal: AbortSignal.abort() }), { end: 'stopped', text: '' })
  t.match(await realtime.stream('answer:1', ['a'], { signal: new AbortController().signal }), { end: 'done' })
})

t.test('the close of the app interrupts a stream that does not end, and starts no more', async (t) => {
  const { app } = await startOne(t, 'memory')
  const [endless, ending] = [source(), source()]
  const interrupted = app.realtime.stream('answer:1', endless.iterable, { id: 'a' })
  const done = app.realtime.stream('answer:2', ending.iterable, { id: 'a' })
  endless.push('Hel')
  await until(() => endless.state.asked === 2 && ending.state.asked === 1, 'both have begun')
  const closing = app.close()
  ending.push('all of it')
  ending.end()
  t.match(await done, { text: 'all of it', end: 'done' }, 'what ends in time is complete')
  t.match(await interrupted, { text: 'Hel', end: 'interrupted' })
  await closing
  await t.rejects(app.realtime.stream('answer:1', ['a']), { code: 'FST_CRWS_CLOSING', message: /stream cannot start/ })
})

t.test('the close of the app does not wait for a Redis that is gone', async (t) => {
  const redis = await startRedis(t)
  const { app } = await startApp(t, { redis: redis.url, keyPrefix: randomPrefix(), channels })
  const model = source()
  const streaming = app.realtime.stream('answer:1', model.iterable)
  const failed = t.rejects(streaming, { code: /^FST_CRWS_REDIS_/ })
  model.push('Hello')
  await until(async () => (await app.realtime.history('answer:1')).publications.length === 1, 'it has begun')
  await redis.kill()
  model.push(' world')
  await app.close()
  await failed
  t.equal(model.state.returned, 1)
})

t.test('a text has a bound', async (t) => {
  const { app: { realtime } } = await startOne(t, 'memory', { maxBufferedBytes: 100_000 })
  const part = 'é'.repeat(5_000)
  await t.rejects(realtime.stream('answer:1', [part, part, part], { id: 'a' }), { code: 'FST_CRWS_STREAM_TOO_LONG', message: /Stream a has more than 25000 bytes/ })
  const { publications } = await realtime.history('answer:1')
  t.match(publications.at(-1)!.data, { from: 0, text: part + part, end: 'failed' })
})

t.test('what stream cannot take is refused with what it takes', async (t) => {
  const { app: { realtime } } = await startOne(t, 'memory')
  const code = 'FST_CRWS_INVALID_ARGUMENT'
  const refused = async (call: Promise<unknown>, message: RegExp) => { await t.rejects(call, { code, message }) }
  await t.rejects(realtime.stream('', []), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await refused(realtime.stream('chat:1', []), /'chat:1', expected a channel of a namespace with the rule stream: true/)
  for (const one of ['text', 5, null, {}]) await refused(realtime.stream('answer:1', one as never), /source: .*an async iterable of strings/)
  await refused(realtime.stream('answer:1', [], { delay: 1 } as never), /options of stream/)
  for (const id of ['', 'x'.repeat(65), 5, '\ud83d']) await refused(realtime.stream('answer:1', [], { id: id as string }), /Invalid id/)
  for (const batchDelay of [-1, '2s', 'soon']) await refused(realtime.stream('answer:1', [], { batchDelay }), /batchDelay: .*at most 1000 ms/)
  await refused(realtime.stream('answer:1', [], { signal: 5 as never }), /an AbortSignal/)
  await refused(realtime.stream('answer:1', [], { id: 'a', resume: 'yes' as never }), /true or false/)
  await refused(realtime.stream('answer:1', [], { resume: true }), /the id of the stream to resume/)
  await t.rejects(realtime.stopStream('', 'a'), { code: 'FST_CRWS_INVALID_CHANNEL' })
  await refused(realtime.stopStream('answer:1', 5 as never), /Invalid id/)
  const model = source()
  const streaming = realtime.stream('answer:1', model.iterable, { id: 'a' })
  model.push('x')
  await until(() => model.state.asked === 2, 'it has begun')
  await refused(realtime.stream('answer:1', [], { id: 'a' }), /another id/)
  model.end()
  await streaming
})

t.test('the rule stream needs history of some size, all of it, and all parts', async (t) => {
  const refused = (rules: object, message: RegExp) => t.rejects(startApp(t, { channels: { answer: { stream: true, ...rules } } as never }), { code: 'FST_CRWS_INVALID_OPTION', message })
  await refused({}, /"channels\.answer\.stream": got true without history, expected false, or true with history of at least 20/)
  await refused({ history: { size: 19, ttl: '1m' } }, /true with history of 19/)
  await refused({ history: { size: 20, ttl: '1m' }, slow: 'latest' }, /slow: 'latest', which leaves out parts/)
  await refused({ history: { size: 20, ttl: '1m', recover: 'cache' } }, /recover: 'cache'/)
})

t.test('what was published before the last half of the ttl is there again', async (t) => {
  const { app: { realtime } } = await startOne(t, 'memory', { channels: { answer: { stream: true, history: { size: 20, ttl: '1s' } } } })
  const model = source()
  const seen: StreamPart[] = []
  await realtime.listen('answer:1', ({ data }) => { seen.push(data as StreamPart) })
  const streaming = realtime.stream('answer:1', model.iterable, { batchDelay: 0 })
  model.push('a')
  await until(() => seen.length === 1, 'it is there')
  await until(async () => (await realtime.history('answer:1')).publications.length === 0, 'it has expired')
  model.push('b')
  await until(() => seen.length === 2, 'it is there')
  t.match(seen[1], { from: 0, text: 'ab' })
  model.end()
  await streaming
})
