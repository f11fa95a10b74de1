process.env.GOES_BACK = '1'
const { simulate } = await import('/tmp/wt-sim/test/simulator/simulation.ts')
const { check } = await import('/tmp/wt-sim/test/faults/checker.ts')
for (const seed of process.argv.slice(2).map(Number)) {
  const o = await simulate(seed)
  console.log(o.schedule.join('\n'))
  for (const [channel, acked] of o.acknowledged) {
    if (channel === 'plain:1') continue
    for (const [name, log] of o.logs) {
      if (!name.endsWith(channel)) continue
      const c = check(acked, [log])
      if (c.twice || c.falselyRecovered) {
        console.log('SEED', seed, name, JSON.stringify(c))
        console.log(' acked', acked.map((a: any) => `${a.publisher}#${a.number}@${a.epoch.slice(0,2)}${a.offset ?? ''}`).join(' '))
        for (const e of log) console.log('  ', JSON.stringify(e))
      }
    }
  }
}
