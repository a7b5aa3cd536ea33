"""What continuous integration is told: SARIF, JUnit, GitHub."""
