import t from 'tap'
import { SignJWT } from 'jose'
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
  await until(() => failed.total > 0, 'it has failed')
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
  t.strictSame([others, one, counts.total], [2, 2, 35])
})
