"""What every framework's models need, and no framework knows: names of options, choices, budgets, reports."""
