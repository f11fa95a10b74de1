import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { redisFromEnvironment as from } from '../../lib/options/redis-environment.ts'
import { checkRedisIdentity } from '../../lib/options/redis-identity.ts'
import { createAuthority, temporaryFolder } from '../helpers/certificates.ts'

const refused = (t: Test, env: NodeJS.ProcessEnv, message: RegExp) => t.throws(() => from(env), { code: 'FST_CRWS_INVALID_OPTION', message }, String(message))

t.test('Redis is at REDIS_URL, or else at REDISHOST and REDISPORT', async (t) => {
  t.equal(from({}), undefined)
  t.equal(from({ REDIS_URL: '', REDISHOST: '', REDISPORT: '1', REDIS_CLUSTER: 'false', REDIS_AUTH: '' }), undefined)
  const at = (host: string, port: number) => ({ socket: { host, port } })
  const url = (options: object) => ({ kind: 'standalone', options, from: 'REDIS_URL' })
  t.strictSame(from({ REDIS_URL: 'redis://a', REDISHOST: 'b' }), url(at('a', 6379)))
  t.strictSame(from({ REDIS_URL: 'redis://' }), url(at('localhost', 6379)))
  t.strictSame(from({ REDIS_URL: 'redis://ada:50%25@[::1]:7000/2' }), url({ username: 'ada', password: '50%', database: 2, ...at('::1', 7000) }))
  t.strictSame(from({ REDIS_URL: 'rediss://:hush@a' }), url({ password: 'hush', socket: { host: 'a', port: 6379, tls: true } }))
  t.strictSame(from({ REDISHOST: 'b' }), { kind: 'standalone', options: at('b', 6379), from: 'REDISHOST' })
  t.strictSame(from({ REDISHOST: 'b', REDISPORT: '7000' }), { kind: 'standalone', options: at('b', 7000), from: 'REDISHOST' })
  refused(t, { REDISHOST: 'b', REDISPORT: 'tcp://b' }, /env REDISPORT.*a port number/)
  for (const REDISPORT of ['0', '65536', '99999999']) refused(t, { REDISHOST: 'b', REDISPORT }, /env REDISPORT.*a port number, 1 to 65535/)
  for (const path of ['-1', '1e3', '0x10', '1/2']) refused(t, { REDIS_URL: `redis://a/${path}` }, /env REDIS_URL.*the number of a database/)
  refused(t, { REDIS_URL: 'b' }, /env REDIS_URL.*a URL that starts with/)
  refused(t, { REDIS_URL: 'redis://a/news' }, /env REDIS_URL.*the number of a database/)
  refused(t, { REDIS_URL: 'redis://:50%hush@a' }, /env REDIS_URL.*percent-encoded(?!.*hush)/)
})

t.test('REDIS_CA_FILE names the only certificates that are trusted', async (t) => {
  const [one, two] = [await createAuthority(t), await createAuthority(t)]
  const folder = await temporaryFolder(t)
  const both = join(folder, 'both.pem')
  await writeFile(both, `old:\n${await readFile(one.file, 'utf8')}\nnew:\n${await readFile(two.file, 'utf8')}`)
  const ca = (env: NodeJS.ProcessEnv) => (from(env) as any).options.socket
  t.match(ca({ REDIS_URL: 'rediss://a', REDIS_CA_FILE: one.file }), { tls: true, ca: [/BEGIN CERTIFICATE/], checkServerIdentity: checkRedisIdentity })
  t.match(ca({ REDISHOST: 'a', REDISPORT: '6378', REDIS_CA_FILE: both }), { host: 'a', port: 6378, tls: true, ca: [/./, /./] }, 'with REDISHOST it turns TLS on')

  const empty = join(folder, 'empty')
  const noCertificate = join(folder, 'none')
  const broken = join(folder, 'broken')
  await writeFile(empty, '\n')
  await writeFile(noCertificate, 'hush')
  await writeFile(broken, '-----BEGIN CERTIFICATE-----\nhush\n-----END CERTIFICATE-----')
  const REDISHOST = 'a'
  refused(t, { REDISHOST, REDIS_CA_FILE: join(folder, 'hush') }, /env REDIS_CA_FILE\)": got a path that cannot be read \(ENOENT\), expected the path of a file in PEM format(?!.*hush)/)
  refused(t, { REDISHOST, REDIS_CA_FILE: folder }, /cannot be read \(EISDIR\)/)
  refused(t, { REDISHOST, REDIS_CA_FILE: empty }, /the path of an empty file/)
  refused(t, { REDISHOST, REDIS_CA_FILE: noCertificate }, /the path of a file without a certificate(?!.*hush)/)
  refused(t, { REDISHOST, REDIS_CA_FILE: broken }, /a certificate that is not valid PEM(?!.*hush)/)
  refused(t, { REDIS_URL: 'redis://a', REDIS_CA_FILE: one.file }, /env REDIS_CA_FILE.*'rediss:\/\/': with 'redis:\/\/' nothing is encrypted/)
})

t.test('REDIS_PASSWORD_FILE names a file that has the password of each new connection', async (t) => {
  const folder = await temporaryFolder(t)
  await mkdir(join(folder, 'redis'))
  const REDIS_PASSWORD_FILE = join(folder, 'redis', 'password')
  const REDISHOST = 'a'
  refused(t, { REDISHOST, REDIS_PASSWORD_FILE }, /env REDIS_PASSWORD_FILE\)": got a path that cannot be read \(ENOENT\), expected the path of a file that holds the password/)
  refused(t, { REDISHOST, REDIS_PASSWORD_FILE: 'hush' }, /ENOENT(?!.*hush)/)
  await writeFile(REDIS_PASSWORD_FILE, '')
  refused(t, { REDISHOST, REDIS_PASSWORD_FILE }, /an empty file/)
  await writeFile(REDIS_PASSWORD_FILE, 'first\n')
  const provider = (env: NodeJS.ProcessEnv) => (from(env) as any).options.credentialsProvider
  const given = provider({ REDISHOST, REDIS_PASSWORD_FILE })
  t.strictSame(await given.credentials(), { username: 'default', password: 'first' })
  await writeFile(REDIS_PASSWORD_FILE, 'second')
  t.strictSame(await given.credentials(), { username: 'default', password: 'second' })
  t.strictSame(await provider({ REDIS_URL: 'redis://ada@a', REDIS_PASSWORD_FILE }).credentials(), { username: 'ada', password: 'second' })
  refused(t, { REDIS_URL: 'redis://:hush@a', REDIS_PASSWORD_FILE }, /env REDIS_PASSWORD_FILE\)": got a password in REDIS_URL and REDIS_PASSWORD_FILE, expected one of them(?!.*hush)/)
})

t.test('REDIS_AUTH=iam takes a Google access token for the password', async (t) => {
  t.strictSame(from({ REDISHOST: 'a', REDIS_AUTH: 'iam' }), { kind: 'standalone', options: { socket: { host: 'a', port: 6379 } }, from: 'REDISHOST', iam: true })
  refused(t, { REDISHOST: 'a', REDIS_AUTH: 'hush' }, /env REDIS_AUTH\)": got another value, expected 'iam', or nothing/)
  refused(t, { REDIS_URL: 'redis://:hush@a', REDIS_AUTH: 'iam' }, /got a password in REDIS_URL and REDIS_AUTH=iam, expected one of them/)
  refused(t, { REDISHOST: 'a', REDIS_PASSWORD_FILE: '/hush', REDIS_AUTH: 'iam' }, /got REDIS_PASSWORD_FILE and REDIS_AUTH=iam, expected one of them/)
  refused(t, { REDIS_URL: 'redis://ada@a', REDIS_AUTH: 'iam' }, /got a user in REDIS_URL, expected a URL without one: the service account is the user/)
})

t.test('REDIS_CLUSTER=true makes of the address the discovery endpoint of a cluster, and of the rest settings of all its nodes', async (t) => {
  const { file } = await createAuthority(t)
  const rootNodes = [{ socket: { host: 'a', port: 7000 } }]
  const cluster = (env: NodeJS.ProcessEnv) => from({ ...env, REDIS_CLUSTER: 'true' })
  t.strictSame(cluster({ REDIS_URL: 'redis://a:7000' }), { kind: 'cluster', options: { rootNodes, defaults: {} }, from: 'REDIS_URL' })
  t.strictSame(cluster({ REDIS_URL: 'rediss://ada:hush@a:7000' }), {
    kind: 'cluster', options: { rootNodes, defaults: { username: 'ada', password: 'hush', socket: { tls: true } } }, from: 'REDIS_URL'
  })
  t.match(cluster({ REDISHOST: 'a', REDISPORT: '7000', REDIS_CA_FILE: file, REDIS_AUTH: 'iam' }), {
    kind: 'cluster', options: { rootNodes, defaults: { socket: { tls: true, ca: [/./], checkServerIdentity: checkRedisIdentity } } }, iam: true
  })
  t.match(from({ REDISHOST: 'a', REDIS_CLUSTER: 'false' }), { kind: 'standalone' })
  refused(t, { REDISHOST: 'a', REDIS_CLUSTER: 'yes' }, /env REDIS_CLUSTER\)": got another value, expected 'true' or 'false'/)
  refused(t, { REDIS_URL: 'redis://a/1', REDIS_CLUSTER: 'true' }, /got a database in REDIS_URL, expected a URL without one/)
})

t.test('settings without an address are refused, or the instances would not be joined', async (t) => {
  for (const env of [{ REDIS_CA_FILE: '/ca' }, { REDIS_PASSWORD_FILE: '/password' }, { REDIS_AUTH: 'iam' }, { REDIS_CLUSTER: 'true' }]) {
    refused(t, env, new RegExp(`env ${Object.keys(env)[0]}\\)": got a value, expected an address as well, in REDIS_URL or REDISHOST`))
  }
})

t.test('one error names all that is wrong', async (t) => {
  refused(t, { REDIS_URL: 'redis://:hush@a/1', REDIS_CA_FILE: '/nowhere', REDIS_AUTH: 'iam', REDIS_CLUSTER: 'true' },
    /^3 options are wrong:[^]*REDIS_CA_FILE[^]*REDIS_AUTH[^]*REDIS_CLUSTER/)
  refused(t, { REDISHOST: 'a', REDISPORT: 'b', REDIS_CA_FILE: '/nowhere', REDIS_CLUSTER: 'yes', REDIS_AUTH: 'password', REDIS_PASSWORD_FILE: '/nowhere' },
    /^5 options are wrong:[^]*REDISPORT[^]*REDIS_CA_FILE[^]*REDIS_AUTH[^]*REDIS_PASSWORD_FILE[^]*REDIS_CLUSTER/)
})
