/** Edits up to which a name counts as misspelt: a name of up to three letters, and a longer one. */
const MAX_EDITS_SHORT = 1
const MAX_EDITS = 2

/** Returns the known name that was likely meant by an unknown one; undefined if none is like it. */
export function likelyMeant (unknown: string, known: readonly string[]): string | undefined {
  const limit = unknown.length <= 3 ? MAX_EDITS_SHORT : Math.max(MAX_EDITS, Math.floor(unknown.length / 3))
  const near = known.map(name => ({ name, edits: editsBetween(unknown.toLowerCase(), name.toLowerCase()) }))
  return near.filter(({ edits }) => edits <= limit).sort((a, b) => a.edits - b.edits)[0]?.name
}

/** Levenshtein distance: letters to insert, delete or replace. */
function editsBetween (a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    }
    row = next
  }
  return row[b.length]!
}
