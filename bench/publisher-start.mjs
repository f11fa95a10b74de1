// How long a process takes from its start until it has published with createPublisher, and until it has ended.
// Prints one Markdown table. See README.md.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { text } from 'node:stream/consumers'
import { startRedis } from './redis.mjs'

const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '20' },
    quick: { type: 'boolean', default: false },
    plugin: { type: 'string', default: fileURLToPath(new URL('../dist/index.js', import.meta.url)) }
  }
})
const runs = options.quick ? 2 : Number(options.runs)
const kinds = [
  {
    name: 'node-redis alone',
    code: url => `const { createClient } = await import('redis')
const client = await createClient({ url: ${url} }).connect()
await client.publish('news', 'hello')
const published = performance.now()
await client.close()`
  },
  { name: 'createPublisher of the entry `/publisher`', code: url => publish(url, options.plugin.replace(/index\.js$/, 'publisher.js')) },
  { name: 'createPublisher of the main entry', code: url => publish(url, options.plugin) }
]

function publish (url, entry) {
  return `const { createPublisher } = await import(${JSON.stringify(entry)})
const publisher = await createPublisher({ redis: ${url} })
await publisher.publish('news', { text: 'hello' })
const published = performance.now()
await publisher.close()`
}

/** ms from the start of the process until it has published, and until it has ended. */
async function start ({ code }, url) {
  const startedAt = performance.now()
  const source = `${code(JSON.stringify(url))}\nconsole.log(published)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', source], {
    cwd: fileURLToPath(new URL('..', import.meta.url)), stdio: ['ignore', 'pipe', 'inherit']
  })
  const [published, [exit]] = await Promise.all([text(child.stdout), once(child, 'close')])
  if (exit !== 0) throw new Error(`the process ended with ${exit}`)
  return { published: Number(published), ended: performance.now() - startedAt }
}

const median = figures => figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)]

const redis = await startRedis()
const figures = new Map(kinds.map(kind => [kind, []]))
try {
  // In turn, so that what else the machine does meets all alike; the first round fills the disk cache.
  for (let run = 0; run <= runs; run++) {
    for (const [kind, measured] of figures) {
      const taken = await start(kind, redis.url)
      if (run > 0) measured.push(taken)
    }
  }
} finally {
  await redis.stop()
}

console.log('| process | published after, median, ms | fastest | slowest | ended after, median, ms |\n| --- | ---: | ---: | ---: | ---: |')
for (const [{ name }, measured] of figures) {
  const published = measured.map(one => one.published)
  const cells = [median(published), Math.min(...published), Math.max(...published), median(measured.map(({ ended }) => ended))]
  console.log(`| ${name} | ${cells.map(cell => cell.toFixed(0)).join(' | ')} |`)
}
