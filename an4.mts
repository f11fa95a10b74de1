process.env.GOES_BACK = '1'
const m = await import('/tmp/wt-sim/test/simulator/simulation.ts')
const { check } = await import('/tmp/wt-sim/test/faults/checker.ts')
const drop = (process.argv[2] ?? '').split(',').filter(Boolean)
for (const d of drop) (m as any).weights[d] = 0
let f: number[] = [], l: number[] = [], d: any[] = [], p: any[] = []
for (let seed = 1; seed <= Number(process.argv[3] ?? 1000); seed++) {
  const o = await m.simulate(seed)
  if (o.counts.falselyRecovered) f.push(seed)
  else if (o.counts.lost) l.push(seed)
  if (o.counts.twice || o.counts.disordered) d.push(seed)
  if (o.problems.length) p.push([seed, o.problems])
}
console.log({ drop, f, l, d }, JSON.stringify(p.slice(0, 3)))
