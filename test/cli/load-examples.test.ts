import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { startExample } from '../helpers/example-server.ts'
import { runLoad } from '../helpers/load.ts'
import { root } from '../helpers/markdown.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { startRedis } from '../helpers/redis.ts'
import { secretOf } from '../helpers/secrets.ts'

const read = (path: string) => readFileSync(join(root, path), 'utf8')

t.test('an example server passes a load test by those who hold its secret, and refuses all others', async (t) => {
  const [redis, metadata] = await Promise.all([startRedis(t), startMetadataServer(t)])
  const secret = secretOf('of the tests')
  const { port } = await startExample(t, join(root, 'example/cloud-run'), {
    K_SERVICE: 'chat',
    K_REVISION: 'chat-00001-abc',
    K_CONFIGURATION: 'chat',
    TOKEN_SECRET: secret,
    REDIS_URL: `redis://127.0.0.1:${redis.port}`,
    ...metadata.env
  })
  const url = `ws://127.0.0.1:${port}`
  const file = join(t.testdir(), 'token-secret')
  writeFileSync(file, secret)
  const args = ['load', '--url', url, '--token-secret-file', file, '--connections', '20', '--ramp', '200ms', '--duration', '2s', '--publish', '100']
  const child = spawn(process.execPath, ['--import=tsx', 'cli.ts', ...args], { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] })
  t.teardown(() => child.kill('SIGKILL'))
  const report = text(child.stdout)
  const [code] = await once(child, 'exit')
  t.equal(code, 0, await report)
  t.match(await report, /connected +20 of 20[^]*lost +0\n[^]*\nOK\n$/)

  const { report: { subscriptions } } = await runLoad(url, '--token-secret', secret, '--token-claims', '{"sub":"ada"}')
  t.strictSame(subscriptions.errors, { '103 permission denied': 4 }, 'a user of the app')
  const { report: { connections } } = await runLoad(url, '--token-secret', secretOf('of somebody else'))
  t.match(connections, { opened: 0, closed: { '3500 invalid token': 4 } }, 'a token of somebody else')
  t.equal((await runLoad(url)).report.connections.opened, 0, 'no token')
})

t.test('without a secret an example server lets nobody into the channels of load tests', async (t) => {
  const metadata = await startMetadataServer(t)
  const { port } = await startExample(t, join(root, 'example/cloud-run'), metadata.env)
  const { code, report } = await runLoad(`ws://127.0.0.1:${port}`)
  t.equal(code, 1)
  t.strictSame([report.subscriptions.errors, report.publications.sent], [{ '103 permission denied': 4 }, 0])
})

t.test('the examples have the rules of the page', async (t) => {
  const rules = /const isLoadClient = .*|load: \{ subscribe: isLoadClient.*?\} \}/g
  const [, , page = ''] = read('docs/load-testing.md').split('```js ')
  const expected = page.match(rules)
  t.equal(expected?.length, 2)
  for (const name of ['cloud-run', 'gke', 'app-engine']) t.strictSame(read(`example/${name}/server.mjs`).match(rules), expected, name)
})
