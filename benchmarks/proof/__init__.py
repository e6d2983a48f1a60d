"""The papers' claims in small: one base, variants trained alike, paired scores, a verdict for every claim."""
