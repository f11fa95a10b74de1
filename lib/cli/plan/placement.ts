/** How many of `instances` are expected to have at least one of a channel's `members`, each placed by chance. */
export function instancesReached (instances: number, members: number): number {
  if (members === 0) return 0
  // n (1 - (1 - 1/n)^m), also where m / n is tiny.
  return -instances * Math.expm1(members * Math.log1p(-1 / instances))
}
