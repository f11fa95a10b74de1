import neostandard, { resolveIgnoresFromGitignore } from 'neostandard'

const maxLength = {
  code: 140,
  comments: 120,
  ignoreUrls: true,
  ignoreStrings: true,
  ignoreTemplateLiterals: true,
  ignoreRegExpLiterals: true
}

export default [
  ...neostandard({
    ts: true,
    ignores: resolveIgnoresFromGitignore()
  }),
  {
    rules: { '@stylistic/max-len': ['error', maxLength] }
  }
]
