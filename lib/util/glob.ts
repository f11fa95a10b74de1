/** Alternatives that a pattern may have in all. */
const MAX_ALTERNATIVES = 100

/** One character of a pattern: `*`, `?`, a set, or itself. */
type Part = '*' | ((character: string) => boolean)

/**
 * Compiles a pattern for whole names, in which `*` (or `**`) is any text, `?` any character, `[abc]` and `[a-z]` one of
 * these, `[!a]` any other, `{one,two}` either, and `\` takes away the meaning of what follows. Matching takes time in
 * proportion to the lengths of both, whatever the pattern is. Returns undefined for a pattern that is wrong.
 */
export function compileGlob (pattern: string): ((name: string) => boolean) | undefined {
  const alternatives = expand(pattern)
  const compiled = alternatives?.map(partsOf)
  if (compiled === undefined || compiled.includes(undefined)) return undefined
  return name => compiled.some(parts => matches(parts!, Array.from(name)))
}

/** Writes each alternative in braces out. Braces may be nested. */
function expand (pattern: string): string[] | undefined {
  const open = indexOutsideSets(pattern, '{')
  if (open === -1) return indexOutsideSets(pattern, '}') === -1 ? [pattern] : undefined
  const options: string[] = []
  let depth = 0
  let start = open + 1
  for (let i = open; i < pattern.length; i++) {
    const character = pattern[i]
    if (character === '\\') i++
    else if (character === '{') depth++
    else if (character === ',' && depth === 1) {
      options.push(pattern.slice(start, i))
      start = i + 1
    } else if (character === '}' && --depth === 0) {
      options.push(pattern.slice(start, i))
      const expanded: string[] = []
      for (const option of options) {
        const more = expand(pattern.slice(0, open) + option + pattern.slice(i + 1))
        if (more === undefined || expanded.push(...more) > MAX_ALTERNATIVES) return undefined
      }
      return expanded
    }
  }
  return undefined
}

function indexOutsideSets (pattern: string, wanted: string): number {
  let inSet = false
  for (let i = 0; i < pattern.length; i++) {
    const character = pattern[i]
    if (character === '\\') i++
    else if (inSet) inSet = character !== ']'
    else if (character === '[') inSet = true
    else if (character === wanted) return i
  }
  return -1
}

function partsOf (pattern: string): Part[] | undefined {
  const characters = Array.from(pattern)
  const parts: Part[] = []
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i]!
    if (character === '*') {
      if (parts.at(-1) !== '*') parts.push('*')
    } else if (character === '?') parts.push(() => true)
    else if (character === '[') {
      const end = characters.indexOf(']', i + 1)
      if (end === -1) return undefined
      parts.push(setOf(characters.slice(i + 1, end)))
      i = end
    } else {
      const literal = character === '\\' ? characters[++i] : character
      if (literal === undefined) return undefined
      parts.push(other => other === literal)
    }
  }
  return parts
}

function setOf (characters: string[]): (character: string) => boolean {
  const negated = characters[0] === '!'
  const ranges: Array<[from: string, to: string]> = []
  for (let i = negated ? 1 : 0; i < characters.length; i++) {
    const from = characters[i]!
    const to = characters[i + 1] === '-' ? characters[i + 2] : undefined
    ranges.push([from, to ?? from])
    if (to !== undefined) i += 2
  }
  return character => ranges.some(([from, to]) => from <= character && character <= to) !== negated
}

/** After a mismatch only the last star takes one character more: that is enough, and no pattern is slow. */
function matches (parts: readonly Part[], name: readonly string[]): boolean {
  let part = 0
  let at = 0
  let star = -1
  let taken = 0
  while (at < name.length) {
    const next = parts[part]
    if (next === '*') {
      star = part++
      taken = at
    } else if (next?.(name[at]!) === true) {
      part++
      at++
    } else if (star !== -1) {
      part = star + 1
      at = ++taken
    } else return false
  }
  while (parts[part] === '*') part++
  return part === parts.length
}
