/** Label matchers as PromQL and the read path use them. */

export type MatchOp = '=' | '!=' | '=~' | '!~';

/** A matcher on an absent label sees the empty string, as in Prometheus. Regular expressions are RE2 and fully anchored. */
export interface Matcher {
  readonly name: string;
  readonly op: MatchOp;
  readonly value: string;
}
