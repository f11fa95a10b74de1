import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { BENCH_TIMEOUT, benchmarks } from '../helpers/bench.ts'

const { plugin, bench } = benchmarks(t)

t.test('the benchmark measures this plugin and its peers in one run', { timeout: BENCH_TIMEOUT }, async t => {
  const rows = await bench('run', '--peers', 'fastify-websocket,socket-io,plugin-protobuf-history', '--accept', '0', '--saturation', '0')
  t.equal(rows.length, 6)
  for (const server of ['`@fastify/websocket` by hand', 'Socket.IO + Redis adapter', 'this plugin, SDK in Protobuf, with history']) {
    const [fanOut, perServer] = rows.filter(row => row.startsWith(`| ${server}`))
    t.match(fanOut, /\| 50\/s \| [\d.]+ \| 1,000 of 1,000 \| 0 \|/)
    t.match(perServer, /\| -?[\d.]+ \(-?[\d.]+\) \|$/)
  }
})

t.test('the benchmark finds the most deliveries per second, and what an upgrade costs', { timeout: BENCH_TIMEOUT }, async t => {
  // uWebSockets.js is left out where its addon does not fit.
  const rows = await bench('run', '--peers', 'bare-ws,uws', '--rates', '', '--idle', '0')
  t.ok(rows.length === 1 || rows.length === 2)
  for (const row of rows) t.match(row, /^\| (bare|uWeb)[^|]+\| (over )?[\d,]+ \| [\d,]+ \| \d+ \| \d+ \| {2}\|$/)
})

t.test('the benchmark shows how cost grows, and draws it', { timeout: BENCH_TIMEOUT }, async t => {
  const plot = join(t.testdir(), 'growth.svg')
  const rows = await bench('growth', '--peers', 'plugin-json', '--clients', '10', '--channels', '20', '--instances', '1', '--plot', plot)
  t.match(rows, [/^\| 10 \|.*\| 500 of 500 \|/, /^\| 20 \|.*\| 50 of 50 \|/, /^\| 1 \|.*\| 500 of 500 \|/])
  t.match(await readFile(plot, 'utf8'), /^<svg [^]+<circle [^]+<\/svg>\n$/)
})

t.test('the benchmark survives a storm of clients', { timeout: BENCH_TIMEOUT }, async t => {
  t.match(await bench('storm', '--peers', 'plugin-json'), [/^\| this plugin, SDK in JSON \| [\d.]+ \| 0 \|.*\| 0 of [\d,]+ \| [\d.,]+ \|$/])
})

t.test('the benchmark overloads a server', { timeout: BENCH_TIMEOUT }, async t => {
  t.match(await bench('overload', '--peers', 'plugin'), [/^\| this plugin \| 2,000\/s \| yes \| [\d,]+ of 40,000 /])
})

t.test('the benchmark compares two builds', { timeout: BENCH_TIMEOUT }, async t => {
  const rows = await bench('compare', '--base-plugin', plugin, '--peers', 'plugin', '--idle', '0', '--accept', '0')
  t.equal(rows.length, 3)
  t.match(rows[0], /^\| this plugin \| CPU per delivery at 50\/s, us \| [\d.]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ to [\d.]+ \|$/)
})

t.test('the benchmark of schemas publishes without one, and with each kind', { timeout: BENCH_TIMEOUT }, async t => {
  const rows = await bench('schemas')
  for (const [i, name] of ['no schema', 'JSON Schema', 'zod'].entries()) t.match(rows[i], new RegExp(`^\\| ${name}.* \\| [\\d.]+ \\| [\\d.]+ to [\\d.]+ \\| [\\d,]+ \\|$`))
})

t.test('the benchmark of deltas counts bytes and CPU without them, and with them', { timeout: BENCH_TIMEOUT }, async t => {
  const rows = await bench('delta')
  for (const [i, delta] of ['no', 'yes'].entries()) t.match(rows[i], new RegExp(`^\\| 10 \\| 1,0\\d\\d \\| ${delta} \\| [\\d,]+ \\| [\\d.]+ \\| .* \\| 0 \\|$`))
})

t.test('the hostile benchmark attacks a server, which lives', { timeout: BENCH_TIMEOUT }, async t => {
  const rows = await bench('hostile', '--attacks', 'flood of pongs')
  t.match(rows, [/^\| flood of pongs \| yes \|/])
})

t.test('the soak loses nothing', { timeout: BENCH_TIMEOUT }, async t => {
  t.match(await bench('soak'), [/^\| 0\.1 \| \d+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \| 0 \| 0 \| 0 \| 0 \|/])
})
