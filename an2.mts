process.env.GOES_BACK = '1'
const { simulate } = await import('/tmp/wt-sim/test/simulator/simulation.ts')
let f = 0, l = 0, d = 0, other: any[] = [], back = 0, fr: number[] = []
for (let seed = 1; seed <= 1000; seed++) {
  const o = await simulate(seed)
  if (o.counts.falselyRecovered) { f++; fr.push(seed) }
  else if (o.counts.lost) l++
  if (o.counts.twice || o.counts.disordered) { d++; other.push([seed, o.counts]) }
  if (o.problems.length) other.push([seed, o.problems])
}
console.log({ falsely: f, lostOnly: l, twiceOrDisordered: d, fr }, JSON.stringify(other.slice(0, 5)))
