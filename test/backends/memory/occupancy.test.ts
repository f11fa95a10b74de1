import t from 'tap'
import { MemoryOccupancy, SharedOccupancy } from '../../../lib/backends/memory/occupancy.ts'
import { Holder, testOccupancy } from '../occupancy-contract.ts'

const groups = new Map<string, SharedOccupancy>()

testOccupancy(t, async (_t, group, settings) => {
  const shared = groups.get(group) ?? new SharedOccupancy()
  groups.set(group, shared)
  return new Holder(listener => new MemoryOccupancy(shared, settings, listener))
})
