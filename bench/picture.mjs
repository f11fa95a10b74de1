// Draws example/monitoring/dashboard.json over five hours of a simulated fleet (fleet.mjs), whose instances push every
// 60 s. See example/monitoring/README.md.
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import { findProgram } from '../test/helpers/programs.js'
import { simulate } from './fleet.mjs'
import { incidentsOf } from './incidents.mjs'
import { page, WIDTH } from './picture-page.mjs'
import { PromQL } from './promql.mjs'

const MINUTE = 60_000
/** Minutes before the picture begins, and that it shows. */
const BEFORE = 90
const SHOWN = 300
/** As Cloud Monitoring chooses it for a chart of five hours and this width, about. */
const INTERVAL = 3

const { values } = parseArgs({
  options: { out: { type: 'string', default: fileURLToPath(new URL('../example/monitoring/dashboard.png', import.meta.url)) } }
})

/** What happens at which minute of the picture. */
const events = [
  { at: 50, deploy: true },
  { at: 110, redis: 20 },
  { at: 150, redis: 240 },
  { at: 200, until: 212, refused: { type: 'auth', share: 0.3 } },
  { at: 235, until: 250, breaking: 0.04 },
  { at: 240, until: 300, store: { memory: 0.85, evicted: 40 } }
].map(event => ({ ...event, at: event.at + BEFORE, ...event.until && { until: event.until + BEFORE } }))

/** More clients than twelve instances have room for, from minute 270 on. */
const demand = minute => 6_000 + 20 * (minute - BEFORE)

const fill = { SERVICE: 'chat', CLUSTER: '__run__', VALKEY: 'chat-valkey', REDIS: 'chat-redis', HOST: 'chat.example' }
const read = path => {
  const text = readFileSync(new URL(`../example/monitoring/${path}`, import.meta.url), 'utf8')
  return JSON.parse(text.replaceAll(/\$\{([A-Z]+)\}/g, (whole, name) => fill[name] ?? whole))
}
const alerts = readdirSync(new URL('../example/monitoring/alerts', import.meta.url)).map(file => `alerts/${file}`)
const policies = [...alerts, 'optional/memorystore-valkey.json'].map(read)

const fleet = simulate({ seed: 4, minutes: BEFORE + SHOWN, demand, events, max: 12, publish: 40, detailed: true })
// The service has Valkey.
for (const name of fleet.series.keys()) if (name.startsWith('redis_')) fleet.series.delete(name)
const promql = new PromQL(fleet.series)
const [from, to] = [BEFORE * MINUTE, fleet.end - MINUTE]
const times = []
for (let time = from; time <= to; time += INTERVAL * MINUTE) times.push(time)
const incidents = policies
  .flatMap(policy => incidentsOf(policy, promql, { from, to }))
  .map(({ policy, condition, severity, at, until }) => ({ name: `${policy.replace('chat: ', '')}: ${condition}`, severity, since: at, until }))
  .sort((a, b) => a.since - b.since)
// Who looks back over five hours sees every sample; who is woken up, only those that had arrived.
const arrived = Array.from(fleet.series, ([name, all]) => [name, all.map(({ arrivals, ...one }) => one)])
const lookingBack = new PromQL(new Map(arrived))
const html = page({
  dashboard: read('dashboard.json'),
  times,
  evaluate: (query, time) => lookingBack.evaluate(query, time, `${INTERVAL}m`),
  entries: fleet.entries.filter(({ time }) => time >= from),
  incidents
})
const browser = await chromium.launch({ executablePath: findProgram('chromium'), args: ['--headless', '--no-sandbox', '--disable-gpu'] })
try {
  const tab = await browser.newPage({ viewport: { width: WIDTH, height: 800 } })
  await tab.setContent(html)
  await tab.screenshot({ path: values.out, fullPage: true })
} finally {
  await browser.close()
}
console.log(`${values.out}: ${Math.round(readFileSync(values.out).length / 1_024)} KiB`)
