import t from 'tap'
import { SignJWT } from 'jose'
import type { Options } from '../../index.ts'
import { Counts } from '../../lib/cli/load/counts.ts'
import { readOptions } from '../../lib/cli/load/options.ts'
import { Progress } from '../../lib/cli/load/progress.ts'
import { LoadRun } from '../../lib/cli/load/run.ts'
import { Schedule } from '../../lib/cli/load/schedule.ts'
import { SdkClient } from '../../lib/cli/load/sdk-client.ts'
import { Stream } from '../../lib/cli/load/stream.ts'
import { Tally } from '../../lib/cli/load/tally.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { fakeTerminal, runLoad, startScripted } from '../helpers/load.ts'
import type { Answer, SentCommand } from '../helpers/load.ts'
import { until } from '../helpers/until.ts'

const SECRET = 'a secret of more than thirty-two bytes'
const ONE = ['--connections', '1', '--channels', '1']

/** Answers as a server without history does, which delivers to the publisher. `deliver` changes what is delivered. */
function answering (deliver: (publication: object, number: number) => unknown = publication => publication): Answer {
  return ({ id, connect, subscribe, publish }) => {
    if (connect !== undefined) return { id, connect: { client: 'c', version: 'v', ping: 25, pong: true } }
    if (subscribe !== undefined) return { id, subscribe: {} }
    if (publish === undefined) return undefined
    const { channel, data } = publish
    const delivered = [deliver({ data }, numberOf(publish))].flat().map(pub => ({ push: { channel, pub } }))
    return [{ id, publish: {} }, ...delivered]
  }
}

function numberOf ({ data }: NonNullable<SentCommand['publish']>): number {
  return Object(data).load[2]
}

/** A run that is not started, for a client of its own. */
function runOf (url: string, ...args: string[]): LoadRun {
  const options = readOptions(['--url', url, '--connections', '1', '--channels', '1', '--ramp', '1ms', ...args])!
  return new LoadRun(options, new Progress(fakeTerminal()))
}

t.test('it finds what comes twice', async (t) => {
  const url = await startScripted(t, answering((publication, number) => number === 3 ? [publication, publication] : publication))
  const { code, report } = await runLoad(url, ...ONE)
  t.equal(code, 1)
  t.strictSame(report.problems, ['1 deliveries were duplicated'])
  t.equal(report.deliveries.received, report.publications.sent)
})

t.test('it finds what is lost, and what comes after something that was sent later', async (t) => {
  const kept: object[] = []
  const url = await startScripted(t, answering((publication, number) => {
    if (number === 2) return []
    if (number === 4) kept.push(publication)
    return number === 4 ? [] : number === 8 ? [publication, ...kept] : publication
  }))
  const { code, report } = await runLoad(url, ...ONE)
  t.equal(code, 1)
  t.match(report.deliveries, { lost: 1, outOfOrder: 1, duplicated: 0 })
  t.strictSame(report.problems, ['1 deliveries were lost', '1 deliveries were out of order'])
  t.equal((await runLoad(url, ...ONE, '--max-lost', '1')).report.problems.includes('1 deliveries were lost'), false)
})

t.test('it finds offsets that do not follow each other', async (t) => {
  const base = answering((publication, number) => ({ ...publication, offset: number < 5 ? number + 1 : number + 2, epoch: 'e' }))
  const url = await startScripted(t, (command, ...rest) => {
    return command.subscribe === undefined ? base(command, ...rest) : { id: command.id, subscribe: { recoverable: true, offset: 0, epoch: '' } }
  })
  const { report } = await runLoad(url, ...ONE)
  t.strictSame(report.problems, ['1 offsets did not follow the previous one'])
})

t.test('it answers pings, and takes what is not for it', async (t) => {
  let pongs = 0
  const base = answering()
  const url = await startScripted(t, (command, ...rest) => {
    if (Object.keys(command).length === 0) pongs++
    const stray = [{}, { id: 999 }, { push: { channel: 'other', join: {} } }, { push: { channel: 'other', pub: { data: 1 } } }]
    return command.connect === undefined ? base(command, ...rest) : [base(command, ...rest), ...stray]
  })
  const { code, report } = await runLoad(url, ...ONE)
  t.equal(code, 0, JSON.stringify(report))
  t.equal(pongs, 1)
  t.equal(report.deliveries.foreign, 1)
})

t.test('what fails for the moment is tried again: connect, subscribe, and a lost position', async (t) => {
  let connects = 0
  let subscribes: unknown[] = []
  const base = answering()
  const url = await startScripted(t, (command, socket, connection) => {
    const { id, connect, subscribe } = command
    if (connect !== undefined && connects++ === 0) return { id, error: { code: 100, message: 'internal server error', temporary: true } }
    if (subscribe === undefined) return base(command, socket, connection)
    if (connection === 0) return undefined
    const { channel, ...position } = subscribe
    subscribes = [...subscribes, position]
    if (subscribes.length === 1) return { id, error: { code: 100, message: 'internal server error', temporary: true } }
    if (subscribes.length > 2) return { id, subscribe: { recoverable: true, was_recovering: true, recovered: false, offset: 0, epoch: 'new' } }
    return [
      { id, subscribe: { recoverable: true, offset: 7, epoch: 'old' } },
      { push: { channel, unsubscribe: { code: 2500, reason: 'insufficient state' } } }
    ]
  })
  const { report } = await runLoad(url, ...ONE, '--duration', '3s')
  t.strictSame(subscribes, [{}, {}, { recover: true, offset: 7, epoch: 'old' }])
  t.match(report, {
    connections: { opened: 1, gone: 0, failed: { '100 internal server error': 1 } },
    subscriptions: { unrecovered: 1, errors: { '100 internal server error': 1 }, ended: { '2500 insufficient state': 1 } },
    deliveries: { lost: 0 }
  })
})

t.test('a connect that fails for good is not tried again', async (t) => {
  const url = await startScripted(t, ({ id }) => ({ id, error: { code: 103, message: 'permission denied' } }))
  const { report } = await runLoad(url, ...ONE)
  t.match(report.connections, { opened: 0, gone: 1, failed: { '103 permission denied': 1 } })
  t.strictSame(report.connections.closed, {})
})

t.test('a server that does not speak the protocol is named as one', async (t) => {
  const url = await startScripted(t, () => 'hello')
  const { report } = await runLoad(url, ...ONE)
  t.match(report.connections, { opened: 0, gone: 1, failed: { 'what the server sends is not the protocol of the SDKs': 1 } })
})

t.test('JSON that is not the protocol ends a client, and never the run', async (t) => {
  const wrong = [
    'null', '1', '[]', '"x"', '{"id":"1"}', '{"id":1,"connect":null}', '{"id":1,"connect":{"ping":"25"}}', '{"id":1,"connect":{"pong":1}}',
    '{"id":1,"error":null}', '{"id":1,"error":{"code":"x"}}', '{"id":1,"error":{"code":1,"message":1}}', '{"id":1,"error":{"code":1,"temporary":1}}',
    '{"id":2,"subscribe":1}', '{"id":2,"subscribe":{"offset":"1"}}', '{"id":2,"subscribe":{"epoch":1}}', '{"id":2,"subscribe":{"recovered":1}}',
    '{"id":2,"subscribe":{"publications":{}}}', '{"id":2,"subscribe":{"publications":[null]}}', '{"id":2,"subscribe":{"publications":[{"offset":"1"}]}}',
    '{"push":null}', '{"push":{"channel":1}}', '{"push":{"pub":null}}', '{"push":{"pub":{"epoch":1}}}', '{"push":{"unsubscribe":null}}',
    '{"push":{"unsubscribe":{"code":"x"}}}', '{"push":{"unsubscribe":{"code":2000,"reason":1}}}'
  ]
  const url = await startScripted(t, (_command, _socket, connection) => wrong[connection])
  const count = String(wrong.length)
  const { report } = await runLoad(url, '--connections', count, '--channels', '1')
  t.match(report.connections, { opened: 0, gone: wrong.length, failed: { 'what the server sends is not the protocol of the SDKs': wrong.length } })
})

t.test('what the protocol leaves out is nothing wrong', async (t) => {
  const base = answering()
  const url = await startScripted(t, (command, ...rest) => {
    const { id, connect, subscribe } = command
    if (connect !== undefined) return [{ id, connect: {} }, { push: { disconnect: { code: 1 } } }]
    if (subscribe === undefined) return base(command, ...rest)
    return rest[1] === 0 ? { push: { channel: subscribe.channel, unsubscribe: { code: 2000 } } } : { id, error: { code: 103 } }
  })
  const { report } = await runLoad(url, '--connections', '2', '--channels', '1')
  t.match(report, { connections: { opened: 2, gone: 0 }, subscriptions: { ended: { 2000: 1 }, errors: { 103: 1 } } })
})

t.test('a stamp that no client of the run has sent counts as one of others', async (t) => {
  const changes = [[0, 'other'], [1, 'x'], [1, 7], [2, 'x'], [2, 1e15], [2, -1], [2, 0.5], [3, 1e15], [3, null], [4, 'x'], [4, null]] as const
  const forged = (data: unknown) => changes.map(([i, value]) => ({ load: [...Object(data).load].with(i, value) }))
  const url = await startScripted(t, answering((publication, number) => {
    return number === 3 ? [publication, ...forged(Object(publication).data).map(data => ({ data }))] : publication
  }))
  t.match((await runLoad(url, ...ONE)).report, { problems: [], deliveries: { lost: 0, foreign: changes.length } })
  const onMessage: Options['onMessage'] = (connection, data) => {
    connection.send(data)
    const parsed = JSON.parse(String(data))
    if (parsed.load[2] === 3) for (const one of forged(parsed)) connection.send(JSON.stringify(one))
  }
  const plain = await startApp(t, { redis: false, onMessage })
  t.match((await runLoad(plain.url, ...ONE, '--protocol', 'plain')).report, { problems: [], deliveries: { lost: 0, foreign: changes.length } })
})

t.test('an expired token is signed anew', async (t) => {
  const tokens: unknown[] = []
  const base = answering()
  const url = await startScripted(t, (command, ...rest) => {
    const { id, connect } = command
    if (connect === undefined) return base(command, ...rest)
    tokens.push(connect.token)
    return tokens.length === 1 ? { id, error: { code: 109, message: 'token expired' } } : base(command, ...rest)
  })
  const { code, report } = await runLoad(url, ...ONE, '--token-secret', SECRET)
  t.equal(code, 0, JSON.stringify(report))
  t.equal(tokens.length, 2)
  const given = await new SignJWT({ sub: 'one' }).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(SECRET))
  tokens.length = 0
  const { report: { connections } } = await runLoad(url, ...ONE, '--token', given)
  t.match(connections, { opened: 0, gone: 1 }, 'there is no other than the given one')
  t.strictSame(tokens, [given])
})

t.test('publications whose connection closes before the answer are expected by nobody', async (t) => {
  const base = answering()
  const url = await startScripted(t, (command, socket, connection) => {
    if (command.publish === undefined || connection > 0 || numberOf(command.publish) < 4) return base(command, socket, connection)
    socket.terminate()
    return undefined
  })
  const { code, report } = await runLoad(url, ...ONE, '--duration', '3s')
  t.equal(code, 0, JSON.stringify(report))
  t.equal(report.connections.reconnects, 1)
  t.match(Object.keys(report.connections.closed), [/^1006 (?:no close frame|ECONNRESET)/])
  const { sent, acknowledged, unanswered, unsent } = report.publications
  t.ok(unanswered > 0 && unsent > 0)
  t.equal(acknowledged, sent - unanswered)
})

t.test('a connection that is not ready in time is cut, and so is one without pings', async (t) => {
  const { app, url } = await startApp(t, { redis: false, channels: { load: { subscribe: true } } })
  const run = runOf(url)
  const stream = new Stream('load:1', 0)
  const client = new SdkClient(run, 0, [stream])
  await client.connect()
  client.check(performance.now() + 9_000)
  await until(() => client.mayPublish(stream), 'it is subscribed')
  client.check(performance.now() + 34_000)
  t.ok(client.ready, 'a ping may be ten seconds late')
  client.check(performance.now() + 36_000)
  await until(() => connectionsOf(app).length === 0, 'it is gone')
  await until(() => !client.ready, 'it knows')
  t.strictSame(run.tally.closed.toJSON(), { '1006 no ping': 1 })

  const silent = new SdkClient(runOf(await startScripted(t, () => undefined)), 0, [])
  await silent.connect()
  silent.check(performance.now() + 11_000)
  const { failed } = (silent as unknown as { run: LoadRun }).run.tally
  await until(() => Object.keys(failed.toJSON()).length > 0, 'it has failed')
  t.strictSame(failed.toJSON(), { 'connect timeout': 1 })
})

t.test('a run that is stopped twice does not wait, and one that is over connects nobody', async (t) => {
  const url = await startScripted(t, answering(() => []))
  const run = runOf(url, '--duration', '10m')
  const running = run.execute()
  await until(() => run.tally.sent > 0, 'it publishes')
  run.stop()
  run.stop()
  await running
  t.equal(run.phase, 'ending')
  t.ok(run.lost > 0)
  const client = new SdkClient(run, 0, [])
  await client.connect()
  client.close()
  t.notOk(client.ready)
})

t.test('a server that does not answer the close is cut', async (t) => {
  const url = await startScripted(t, (command, socket, connection) => {
    socket.pause()
    return answering()(command, socket, connection)
  })
  const { report } = await runLoad(url, ...ONE, '--publish', '0')
  t.equal(report.connections.opened, 1)
})

t.test('a subscribe that failed is not sent twice after a reconnect', async (t) => {
  const seen: number[] = []
  const url = await startScripted(t, (command, socket, connection) => {
    const { id, subscribe } = command
    if (subscribe === undefined) return answering()(command, socket, connection)
    seen.push(connection)
    return connection === 0 ? { id, error: { code: 100, message: 'later', temporary: true } } : undefined
  })
  const tally = new Tally()
  const actions: Array<() => void> = []
  const schedule = { after: (_ms: number, action: () => void) => { actions.push(action) } } as unknown as Schedule
  const { options } = runOf(url)
  const run = { id: 'run', options, tally, schedule, random: () => 0, tokenOf: async () => undefined, ending: false }
  const client = new SdkClient(run, 0, [new Stream('load:1', 0)])
  await client.connect()
  await until(() => actions.length === 1, 'it wants to subscribe again')
  client.cut('by the test')
  await until(() => actions.length === 2, 'it wants to connect again')
  actions[1]!()
  await until(() => client.ready && seen.length === 2, 'it is connected again')
  actions[0]!()
  client.close()
  await until(() => !client.ready, 'it is closed')
  t.strictSame(seen, [0, 1])
})

t.test('one more reason than are told apart counts among the others', async (t) => {
  const counts = new Counts()
  for (let i = 0; i < 34; i++) counts.add(`reason ${i}`)
  counts.add('reason 1')
  const { others, 'reason 1': one } = counts.toJSON()
  t.strictSame([others, one], [2, 2])
})

t.test('what a server words is kept short, and without what a terminal would obey', async (t) => {
  const counts = new Counts()
  counts.add('4000 \u001B[2J\u009B1m\r\nbye\u202E')
  counts.add('4000 [2J 1m bye ')
  counts.add(`4001 ${'x'.repeat(5_000)}`)
  counts.add('')
  t.strictSame(counts.toJSON(), { '4000 [2J 1m bye': 2, [`4001 ${'x'.repeat(114)}…`]: 1, '': 1 })
})

t.test('a connection that takes no more gets no more, until it does', async (t) => {
  const run = runOf(await startScripted(t, answering()), '--size', '60000')
  const stream = new Stream('load:1', 0)
  const client = new SdkClient(run, 0, [stream])
  await client.connect()
  await until(() => client.mayPublish(stream), 'it is subscribed')
  while (client.mayPublish(stream) && run.tally.sent < 1_000) client.publish(stream) // 60 MB, and the server has no turn to read
  t.ok(run.tally.sent > 10 && run.tally.sent < 1_000, `${run.tally.sent} were sent`)
  t.ok(client.ready)
  await until(() => client.mayPublish(stream), 'the server has read them')
  client.close()
})
