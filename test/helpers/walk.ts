import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import type { Count } from '../fixtures/walk-instance.ts'
import { randomPrefix } from './prefix.ts'
import { startRedis } from './redis.ts'
import { connect } from './ws-client.ts'

const MESSAGES = 200

/**
 * Named functions of lib/ that run for every plain message, from the socket of one instance over Redis to the sockets
 * of two, as `file:name`. V8 counts them while 200 messages are sent one after the other. Getters, setters and
 * anonymous closures are left out, and so is what only runs with an OpenTelemetry SDK.
 */
export async function walkOfMessage (t: Test): Promise<string[]> {
  const redis = await startRedis(t)
  const env = { ...process.env, REDIS_URL: redis.url, PREFIX: randomPrefix() }
  const instances = await Promise.all([startInstance(t, env), startInstance(t, env)])
  const [sender, receiver] = await Promise.all(instances.map(({ port }) => connect(t, `ws://127.0.0.1:${port}/ws`)))
  await Promise.all([sender!.next(), receiver!.next()]) // both are subscribed
  const roundTrip = async (text: string) => {
    sender!.socket.send(text)
    await Promise.all([sender!.next(), receiver!.next()])
  }
  for (let i = 0; i < 10; i++) await roundTrip('warm up')
  for (const { counts } of instances) await counts()
  for (let i = 0; i < MESSAGES; i++) await roundTrip(String(i))
  const counted = await Promise.all(instances.map(({ counts }) => counts()))
  const walk = counted.flat().filter(({ name, count }) => count >= MESSAGES && /^#?[a-z]\w*$/i.test(name))
  return Array.from(new Set(walk.map(({ file, name }) => `${file}:${name}`))).toSorted()
}

async function startInstance (t: Test, env: NodeJS.ProcessEnv) {
  const child: ChildProcess = fork(fileURLToPath(new URL('../fixtures/walk-instance.ts', import.meta.url)), { env, execArgv: ['--import=tsx'] })
  t.teardown(() => child.kill())
  const [port] = await once(child, 'message') as [number]
  return {
    port,
    async counts (): Promise<Count[]> {
      child.send('counts')
      const [counts] = await once(child, 'message') as [Count[]]
      return counts
    }
  }
}
